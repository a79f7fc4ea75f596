//! The schedule, with plain numbers as keys and a clock that is set by hand.

use super::*;

/// Keys `0..n` with their allowances, as a table of connections would keep them.
struct Keys {
    schedule: Schedule<usize>,
    allowances: Vec<Meter>,
    now: Mono,
}

impl Keys {
    fn new(count: usize) -> Keys {
        let schedule = Schedule::new();
        Keys { schedule, allowances: vec![Meter::default(); count], now: Mono::ZERO }
    }

    fn push(&mut self, keys: impl IntoIterator<Item = usize>, queue: Queue) {
        for key in keys {
            self.schedule.push(key, self.allowances[key], queue, self.now);
        }
    }

    /// The turns of one lane, each of which does `work`. `again`: whether its key is queued again.
    fn lane(&mut self, lane: Lane, output: Output, work: Work, again: bool) -> Vec<usize> {
        let mut turns = Vec::new();
        self.schedule.begin(lane, output);
        while let Some(key) = self.schedule.next() {
            turns.push(key);
            self.schedule.charge(Some(&mut self.allowances[key]), &work, self.now);
            if again {
                self.push([key], Queue::Messages);
            }
        }
        turns
    }

    fn tick(&mut self, work: Work) -> [Vec<usize>; 2] {
        [Lane::Interactive, Lane::Background].map(|lane| self.lane(lane, QUIET, work, false))
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }
}

const NOTHING: Work =
    Work { bytes_in: 0, requests: 0, events: 0, bytes_out: 0, recipients: 0, fan_out_bytes: 0 };
const A_KIB: Work = Work { bytes_in: 1024, ..NOTHING };
const QUIET: Output = Output { has_backlog: false, is_full: false };
const BEHIND: Output = Output { has_backlog: true, is_full: false };
const FULL: Output = Output { has_backlog: false, is_full: true };
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn interactive_keys_have_their_turns_before_background_keys() {
    let mut keys = Keys::new(4);
    keys.schedule.push_background(0);
    keys.push([1], Queue::Requests);
    keys.push([2, 3], Queue::Messages);
    assert_eq!(keys.tick(NOTHING), [vec![2, 1, 3], vec![0]]);
    assert!(keys.schedule.is_empty());
}

#[test]
fn messages_and_requests_alternate_and_the_one_does_not_wait_for_an_empty_other() {
    let mut keys = Keys::new(10);
    keys.push(0..6, Queue::Requests);
    keys.push(6..8, Queue::Messages);
    assert_eq!(keys.tick(NOTHING)[0], [6, 0, 7, 1, 2, 3, 4, 5]);
    // The last turn was a request's, so a message is next, in the next tick too.
    keys.push([0], Queue::Requests);
    keys.push([8], Queue::Messages);
    assert_eq!(keys.tick(NOTHING)[0], [8, 0]);
}

#[test]
fn a_burst_of_five_hundred_keys_has_a_turn_each_within_sixteen_ticks() {
    let mut keys = Keys::new(500);
    keys.push(0..500, Queue::Messages);
    let mut served = Vec::new();
    for tick in 0.. {
        let turns = keys.lane(Lane::Interactive, QUIET, A_KIB, true);
        assert_eq!(turns.len(), 32, "what 1 KiB costs, and a tick may");
        served.extend(turns);
        if served.len() >= 500 {
            assert_eq!(tick, 15);
            break;
        }
    }
    served.truncate(500);
    assert_eq!(served, (0..500).collect::<Vec<_>>(), "each key once before any key twice");
}

#[test]
fn a_key_that_is_queued_again_has_one_turn_a_tick() {
    let mut keys = Keys::new(2);
    keys.push([0, 1], Queue::Messages);
    for _ in 0..3 {
        assert_eq!(keys.lane(Lane::Interactive, QUIET, NOTHING, true), [0, 1]);
    }
}

#[test]
fn a_storm_of_hang_ups_takes_sixteen_turns_of_each_tick_and_delays_no_interactive_key() {
    let mut keys = Keys::new(4001);
    (1..=4000).for_each(|key| keys.schedule.push_background(key));
    let mut hung_up = 0;
    for tick in 1.. {
        keys.push([0], Queue::Messages);
        let [interactive, background] = keys.tick(NOTHING);
        assert_eq!(interactive, [0], "in the tick in which it is ready");
        assert_eq!(background.len(), 16);
        hung_up += background.len();
        if hung_up == 4000 {
            assert_eq!(tick, 250);
            break;
        }
    }
}

#[test]
fn background_keys_are_skipped_while_output_waits_but_not_for_ever() {
    for output in [BEHIND, FULL] {
        let mut keys = Keys::new(1);
        for _ in 0..2 {
            keys.schedule.push_background(0);
            let skips = (0..)
                .take_while(|_| keys.lane(Lane::Background, output, NOTHING, false).is_empty());
            assert_eq!(skips.count(), 256);
        }
        // A tick without a backlog begins the count anew.
        keys.schedule.push_background(0);
        assert!(keys.lane(Lane::Background, output, NOTHING, false).is_empty());
        assert_eq!(keys.lane(Lane::Background, QUIET, NOTHING, false), [0]);
        assert_eq!(keys.schedule.skips, 0);
    }
}

#[test]
fn interactive_keys_are_never_skipped() {
    for output in [QUIET, BEHIND, FULL] {
        let mut keys = Keys::new(1);
        keys.push([0], Queue::Messages);
        assert_eq!(keys.lane(Lane::Interactive, output, NOTHING, false), [0]);
    }
}

/// How many turns a lane has in one tick if each does `work`.
fn turns(lane: Lane, work: Work) -> usize {
    let mut keys = Keys::new(10_000);
    match lane {
        Lane::Interactive => keys.push(0..10_000, Queue::Messages),
        Lane::Background => (0..10_000).for_each(|key| keys.schedule.push_background(key)),
    }
    keys.lane(lane, QUIET, work, false).len()
}

#[test]
fn a_tick_ends_when_its_turns_have_cost_its_budget() {
    let check = |work: Work, interactive: usize, background: usize| {
        assert_eq!(turns(Lane::Interactive, work), interactive, "{work:?}");
        assert_eq!(turns(Lane::Background, work), background, "{work:?}");
    };
    check(NOTHING, 64, 16);
    check(A_KIB, 32, 8);
    check(Work { bytes_in: 8 * 1024, ..NOTHING }, 4, 1);
    check(Work { requests: 10, ..NOTHING }, 18, 5);
    check(Work { events: 10, ..NOTHING }, 52, 13);
    check(Work { bytes_out: 16 * 1024, ..NOTHING }, 16, 4);
    // Seven small chat messages in one read.
    check(Work { bytes_in: 700, events: 7, ..NOTHING }, 29, 8);
    // A batch for a large room ends the turns of its tick.
    check(Work { recipients: 100, ..NOTHING }, 22, 6);
    check(Work { recipients: 4000, ..NOTHING }, 1, 1);
    check(Work { fan_out_bytes: 9000 * 200, ..NOTHING }, 64, 16);
}

#[test]
fn costs_do_not_overflow() {
    let most = Work {
        bytes_in: usize::MAX,
        requests: usize::MAX,
        events: usize::MAX,
        bytes_out: usize::MAX,
        recipients: usize::MAX,
        fan_out_bytes: usize::MAX,
    };
    assert_eq!(turns(Lane::Interactive, most), 1);
    let mut work = most;
    work.on_published(usize::MAX, usize::MAX);
    assert_eq!(work, most);
    let mut keys = Keys::new(1);
    keys.push([0], Queue::Messages);
    keys.tick(most);
    keys.push([0], Queue::Messages);
    assert_eq!(keys.tick(NOTHING), [vec![], vec![0]]);
}

#[test]
fn a_connection_that_sends_sixteen_kib_a_second_stays_interactive_for_ever() {
    let mut keys = Keys::new(1);
    for _ in 0..10_000 {
        keys.push([0], Queue::Messages);
        assert_eq!(keys.tick(A_KIB), [vec![0], vec![]]);
        keys.wait(SECOND / 16);
    }
}

#[test]
fn a_connection_that_sends_thirty_two_kib_a_second_goes_to_the_background() {
    let mut keys = Keys::new(1);
    let mut is_interactive = || {
        keys.push([0], Queue::Messages);
        let [interactive, _] = keys.tick(A_KIB);
        keys.wait(SECOND / 32);
        !interactive.is_empty()
    };
    assert_eq!((0..100).take_while(|_| is_interactive()).count(), 17);
}

#[test]
fn a_connection_beyond_its_allowance_is_in_the_background_until_it_has_paid() {
    let mut keys = Keys::new(1);
    let lane = |keys: &mut Keys, work: Work| {
        keys.push([0], Queue::Messages);
        match keys.tick(work).map(|turns| turns.len()) {
            [1, 0] => Lane::Interactive,
            [0, 1] => Lane::Background,
            turns => panic!("{turns:?}"),
        }
    };
    // Eight at once are within the burst, and the ninth is what exceeds it.
    for _ in 0..9 {
        assert_eq!(lane(&mut keys, A_KIB), Lane::Interactive);
    }
    assert_eq!(lane(&mut keys, NOTHING), Lane::Background);
    keys.wait(SECOND / 16);
    assert_eq!(lane(&mut keys, NOTHING), Lane::Interactive);
    // After half a second the whole burst is available again. A longer pause adds nothing.
    keys.wait(100 * SECOND);
    for _ in 0..9 {
        assert_eq!(lane(&mut keys, A_KIB), Lane::Interactive);
    }
    assert_eq!(lane(&mut keys, NOTHING), Lane::Background);
}

#[test]
fn an_event_is_charged_for_each_of_its_recipients() {
    let exceeds = |recipients: usize| {
        let mut work = Work::default();
        work.on_published(1024, recipients);
        let mut allowance = Meter::default();
        let mut schedule = Schedule::<usize>::new();
        schedule.begin(Lane::Interactive, QUIET);
        schedule.charge(Some(&mut allowance), &work, Mono::ZERO);
        is_exceeded(allowance, Mono::ZERO)
    };
    assert!(!exceeds(64), "8 KiB of input cost as much as 64 KiB of output");
    assert!(exceeds(65));
}

#[test]
fn a_room_with_thirty_two_connections_is_large_and_one_with_five_hundred_and_twelve_is_huge() {
    use FanOut::{Huge, Large, Small};
    assert_eq!([31, 32, 511, 512].map(FanOut::of), [Small, Large, Large, Huge]);
}

#[test]
fn a_turn_reads_ten_messages_in_the_foreground_and_eighty_in_the_background() {
    const MESSAGE_BYTES: usize = 100;
    let messages = |lane: Lane| lane.turn_bytes_max() / MESSAGE_BYTES;
    assert_eq!((messages(Lane::Interactive), messages(Lane::Background)), (10, 81));
}

#[test]
fn output_of_background_keys_waits_only_while_more_is_queued_and_nothing_presses() {
    let mut keys = Keys::new(2);
    let begin = Mono::from_micros(5_000_000);
    keys.schedule.on_all_sealed(begin);
    let deadline = begin.after(Duration::from_millis(10));
    let last = Mono::from_micros(deadline.micros() - 1);
    assert_eq!(keys.schedule.coalesce(begin, QUIET), Coalesce::Now, "no more is queued");
    keys.schedule.push_background(0);
    assert_eq!(keys.schedule.coalesce(begin, QUIET), Coalesce::Until(deadline));
    assert_eq!(keys.schedule.coalesce(begin, BEHIND), Coalesce::Now);
    assert_eq!(keys.schedule.coalesce(begin, FULL), Coalesce::Now);
    assert_eq!(keys.schedule.coalesce(last, QUIET), Coalesce::Until(deadline));
    assert_eq!(keys.schedule.coalesce(deadline, QUIET), Coalesce::Now);
    keys.schedule.on_all_sealed(deadline);
    assert!(matches!(keys.schedule.coalesce(deadline, QUIET), Coalesce::Until(_)));
}

#[test]
fn output_of_background_keys_leaves_when_a_mebibyte_was_read() {
    let mut keys = Keys::new(1);
    let now = Mono::from_micros(1);
    keys.schedule.on_all_sealed(now);
    for kib in 0..1024 {
        keys.schedule.push_background(0);
        let decision = keys.schedule.coalesce(now, QUIET);
        assert!(matches!(decision, Coalesce::Until(_)), "after {kib} KiB");
        assert_eq!(keys.lane(Lane::Background, QUIET, A_KIB, false), [0]);
    }
    keys.schedule.push_background(0);
    assert_eq!(keys.schedule.coalesce(now, QUIET), Coalesce::Now);
    // Interactive turns do not count: their output leaves at once.
    keys.schedule.on_all_sealed(now);
    keys.push([0], Queue::Messages);
    keys.lane(Lane::Interactive, QUIET, Work { bytes_in: 1 << 21, ..NOTHING }, false);
    assert!(matches!(keys.schedule.coalesce(now, QUIET), Coalesce::Until(_)));
}

#[test]
fn a_turn_of_a_connection_that_is_gone_costs_the_tick_as_much() {
    let mut keys = Keys::new(100);
    keys.push(0..100, Queue::Messages);
    keys.schedule.begin(Lane::Interactive, QUIET);
    let turns = std::iter::from_fn(|| {
        let key = keys.schedule.next();
        keys.schedule.charge(None, &NOTHING, Mono::ZERO);
        key
    });
    assert_eq!(turns.count(), 64);
}

#[test]
fn queues_give_their_memory_back_with_the_keys() {
    let mut keys = Keys::new(3000);
    keys.push(0..1000, Queue::Messages);
    keys.push(1000..2000, Queue::Requests);
    (2000..3000).for_each(|key| keys.schedule.push_background(key));
    let full = keys.schedule.bytes();
    assert!(full >= 3000 * size_of::<usize>());
    assert_eq!(keys.schedule.iter().count(), 3000);
    while !keys.schedule.is_empty() {
        keys.tick(NOTHING);
    }
    keys.schedule.shrink(1000);
    assert_eq!(keys.schedule.bytes(), full, "there may be as many again soon");
    keys.schedule.shrink(10);
    assert!(keys.schedule.bytes() < full / 10);
    keys.schedule.shrink(0);
    assert_eq!(keys.schedule.bytes(), 0);
    // A small capacity is kept: it is not worth giving back and allocating again.
    keys.push(0..64, Queue::Messages);
    let little = keys.schedule.bytes();
    keys.tick(NOTHING);
    keys.schedule.shrink(1);
    assert_eq!(keys.schedule.bytes(), little);
    keys.push(0..65, Queue::Messages);
    keys.tick(NOTHING);
    keys.schedule.shrink(1);
    assert!(keys.schedule.bytes() < little);
}

/// The budgets here are spent by other files.
#[test]
fn the_longest_queues_are_worked_off_within_these_numbers_of_ticks() {
    let ticks = |queued: usize, each: usize| queued.div_ceil(each);
    assert_eq!(ticks(4096, ACCEPTS_MAX), 256, "a full backlog of connections");
    assert_eq!(ticks(10_000, TIMERS_MAX), 625, "ten thousand connections that time out at once");
    assert_eq!(ticks(10_000, ENDS_MAX), 79, "a room of ten thousand that is deleted");
    assert_eq!(ticks(10_000, DEFERRED_FLUSHES_MAX), 313, "a batch for a room of ten thousand");
    assert_eq!(ticks(16 << 20, FLUSH_BYTES_MAX), 256, "a response with a full history");
    assert_eq!(ticks(1000 * 60 * 1024, PAGED_BYTES_MAX), 118, "a page for each of a thousand");
    assert_eq!(ticks(10_000 * LISTED_BYTES, PAGED_BYTES_MAX), 10, "a list of ten thousand users");
    assert_eq!(ticks(1 << 20, ANSWERED_BYTES_MAX), 64, "a mebibyte of responses, in turns");
    assert_eq!(ticks(60 * 1024, PAGE_LEFT_BYTES_MAX), 4, "a page, in parts of what may be left");
    assert_eq!(ticks(DEFERRED_BYTES_MAX, FLUSH_BYTES_MAX), 2, "two full flushes");
}
