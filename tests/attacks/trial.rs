//! A trial: a server, bystanders, one attack, and the assertions on all of them.

use std::env;
use std::io::{self, Write};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, Once, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, getrlimit, nice};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

use crate::bystanders::{Bystanders, Latencies, MEMBERS, ROOMS, is_healthy};
use crate::client::{Request, Stream, Ws, delete};
use crate::proxied;
use crate::server::{
    Address, DEADLINE, Server, alone, is_slow, metric_in, raise_descriptor_limit, wait_until,
};

/// With these flags nothing times out and no address is limited, unless the flags of an attack say otherwise.
const FLAGS: &[&str] = &[
    "--trusted-proxy",
    "127.0.0.0/8",
    "--max-memory",
    "32M",
    "--header-timeout",
    "1h",
    "--body-timeout",
    "1h",
    "--idle-timeout",
    "1h",
    "--linger-timeout",
    "1h",
    "--ping-interval",
    "1h",
    "--leave-grace",
    "100ms",
    "--message-rate",
    "20",
    "--message-burst",
    "200",
    "--session-rate",
    "0",
    "--room-rate",
    "0",
    "--log",
    "warn",
];

const CEILING_KIB: u64 = 32 * 1024;

/// The attacker's view of a trial.
pub struct Attack<'a> {
    pub server: &'a Server,
    pub bystanders: &'a Bystanders,
    /// How many times the attack has been run before on this server.
    wave: usize,
    end: Instant,
    /// The metrics at the beginning of the attack.
    metrics: String,
    /// The durations of ticks at the beginning of what is measured.
    ticks: Mutex<Ticks>,
    sessions: Mutex<Vec<String>>,
    rooms: Mutex<Vec<(String, String)>>,
}

/// What an attack might leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    descriptors: usize,
    connections: u64,
    websockets: u64,
    sessions: u64,
    rooms: u64,
    members: u64,
    timers: u64,
}

/// Runs an attack against a server of its own; for a report, again and again for ten seconds.
pub fn under_attack(what: &str, flags: &[&str], attack: impl Fn(&Attack) + Sync) {
    let _turn = turn();
    raise_descriptor_limit();
    let server = Server::start_with_metrics(&[FLAGS, flags].concat());
    run_trial(what, server, DEADLINE, reported(), attack);
}

/// Like `under_attack`, with a rate of sessions for each address. The server remembers an address, with a timer, for
/// half a minute, which is longer than a quick test waits. Each wave needs addresses of its own.
pub fn under_attack_with_rates(what: &str, flags: &[&str], attack: impl Fn(&Attack) + Sync) {
    let _turn = turn();
    raise_descriptor_limit();
    let server = Server::start_with_metrics(&[FLAGS, flags, &["--session-rate", "2"]].concat());
    let patience = if is_slow() { Duration::from_secs(60) } else { Duration::ZERO };
    run_trial(what, server, patience, reported(), attack);
}

/// Like `under_attack`, for a server with few descriptors.
pub fn under_attack_with_descriptors(
    what: &str,
    descriptors: u32,
    attack: impl Fn(&Attack) + Sync,
) {
    let _turn = turn();
    raise_descriptor_limit();
    let server = Server::start_with_metrics_and_descriptor_limit(descriptors, FLAGS);
    run_trial(what, server, DEADLINE, reported(), attack);
}

/// Repeats the attack until it has taken `length`. Its timers may remain for `patience`; if that is zero, timers are
/// not checked.
fn run_trial(
    what: &str,
    server: Server,
    patience: Duration,
    length: Duration,
    attack: impl Fn(&Attack) + Sync,
) {
    let empty_kib = server.resident_kib();
    pin_to_processors(&server);
    let bystanders = Bystanders::start(&server);
    bystanders.while_they_chat(chatting());
    let before = settled(&server);
    bystanders.set_under_attack(true);
    let longest_tick = run(&server, &bystanders, length, attack);
    bystanders.set_under_attack(false);
    bystanders.while_they_chat(1);
    assert!(is_healthy(&server), "a new connection is not served");
    let (latencies, sockets) = bystanders.finish(&server);
    wait_for_traces(&server, &before, patience);
    drop(sockets);
    assert_eq!(server.metric("chat_panics_total"), 0);
    let resident_kib = server.resident_kib_max();
    report(what, &latencies, longest_tick, empty_kib, resident_kib);
    let allowed_kib = empty_kib + CEILING_KIB + CEILING_KIB / 4;
    assert!(resident_kib <= allowed_kib, "{resident_kib} KiB resident, {allowed_kib} allowed");
}

/// How long the process may take to end after SIGTERM.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// Sends SIGTERM during an attack, which goes on until connecting fails. The attack gets some sockets in a room.
pub fn until_terminated(what: &str, attack: impl FnOnce(&Address, Vec<Stream>) + Send) {
    let _turn = turn();
    raise_descriptor_limit();
    let mut server = Server::start_with_metrics(FLAGS);
    let empty_kib = server.resident_kib();
    pin_to_processors(&server);
    let bystanders = Bystanders::start(&server);
    bystanders.while_they_chat(chatting());
    bystanders.set_under_attack(true);
    let sockets = Attack::new(&server, &bystanders, 0).sockets(4).into_iter().map(Ws::into_stream);
    let (sockets, address) = (sockets.collect(), server.address().clone());
    thread::scope(|scope| {
        scope.spawn(|| {
            lower_priority();
            attack(&address, sockets);
        });
        bystanders.while_they_chat(chatting());
        let resident_kib = server.resident_kib_max();
        let terminated = Instant::now();
        server.terminate();
        let latencies = bystanders.expect_shutdown();
        let status = server.wait();
        assert_eq!(status.code(), Some(0));
        assert!(terminated.elapsed() < SHUTDOWN_MAX, "{:?}", terminated.elapsed());
        report(what, &latencies, f64::NAN, empty_kib, resident_kib);
    });
}

/// The attack runs with the lowest priority, so that a report measures the server and not the attacker.
///
/// Returns a bound on the longest tick meanwhile, in seconds.
fn run(
    server: &Server,
    bystanders: &Bystanders,
    length: Duration,
    attack: impl Fn(&Attack) + Sync,
) -> f64 {
    let end = Instant::now() + length;
    thread::scope(|scope| {
        let attackers = scope.spawn(|| {
            lower_priority();
            let mut longest = 0_f64;
            for wave in 0.. {
                let wave = Attack::new(server, bystanders, wave);
                attack(&wave);
                let before = wave.ticks.lock().unwrap();
                longest = longest.max(Ticks::of(&server.metrics()).longest_since(&before));
                drop(before);
                wave.forget();
                if Instant::now() >= end {
                    break;
                }
            }
            bystanders.while_they_chat(scale(50, 2));
            longest
        });
        attackers.join().expect("the attack")
    })
}

/// The histogram of the durations of ticks: the number of those up to each bound.
struct Ticks(Vec<(f64, u64)>);

impl Ticks {
    fn of(metrics: &str) -> Ticks {
        let bucket = |line: &str| {
            let (bound, count) =
                line.strip_prefix("chat_tick_duration_seconds_bucket{le=\"")?.split_once("\"} ")?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
        };
        Ticks(metrics.lines().filter_map(bucket).collect())
    }

    /// The smallest bound that no tick since then has exceeded.
    fn longest_since(&self, before: &Ticks) -> f64 {
        let since = || self.0.iter().zip(&before.0).map(|(now, then)| (now.0, now.1 - then.1));
        let all = since().next_back().map_or(0, |(_, count)| count);
        since().find(|(_, count)| *count == all).map_or(f64::INFINITY, |(bound, _)| bound)
    }
}

/// Rounds of chat without an attack. A report needs five seconds of them for a 99th percentile.
fn chatting() -> usize {
    if is_reporting() { 250 } else { scale(120, 5) }
}

/// How long an attack lasts for a report.
fn reported() -> Duration {
    if is_reporting() { Duration::from_secs(10) } else { Duration::ZERO }
}

/// For a report, gives the server a processor of its own, and it and the members real-time priority (as root).
/// Otherwise a member that the server wakes waits for a time slice to end, of the server or of another program, and
/// the report measures the kernel's scheduler.
fn pin_to_processors(server: &Server) {
    static ALL: OnceLock<Vec<usize>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let own = sched_getaffinity(None).expect("an affinity");
        (0..CpuSet::MAX_CPU).filter(|cpu| own.is_set(*cpu)).collect()
    });
    let [first, others @ ..] = &all[..] else { return };
    if !is_reporting() || others.is_empty() {
        return;
    }
    let set = |cpus: &[usize]| {
        let mut set = CpuSet::new();
        cpus.iter().for_each(|cpu| set.set(*cpu));
        set
    };
    let pid = Pid::from_raw(server.pid() as i32);
    sched_setaffinity(pid, &set(&[*first])).expect("an affinity for the server");
    sched_setaffinity(None, &set(others)).expect("an affinity for this thread and its children");
    for thread in [server.pid().to_string(), gettid().as_raw_nonzero().to_string()] {
        if !has_set_policy(&["--fifo", "--pid", "1", &thread]) {
            say(
                "no real-time priority (chrt of util-linux, as root): other programs delay members",
            );
        }
    }
}

fn has_set_policy(arguments: &[&str]) -> bool {
    Command::new("chrt").args(arguments).status().is_ok_and(|status| status.success())
}

/// Applies to this thread and to those that it starts. Failing is no error.
fn lower_priority() {
    let _ = nice(19);
    if is_reporting() {
        // Even at nice 19 a thread finishes its time slice of four milliseconds before a member that wakes up runs.
        // A thread with the idle policy does not.
        let thread = gettid().as_raw_nonzero().to_string();
        if !has_set_policy(&["--idle", "--pid", "0", &thread]) {
            say("no chrt (util-linux): attackers delay members");
        }
    }
}

impl Attack<'_> {
    fn new<'a>(server: &'a Server, bystanders: &'a Bystanders, wave: usize) -> Attack<'a> {
        let length = if is_slow() { Duration::from_secs(4) } else { Duration::from_millis(100) };
        let (sessions, rooms) = (Mutex::default(), Mutex::default());
        let (end, metrics) = (Instant::now() + length, server.metrics());
        let ticks = Mutex::new(Ticks::of(&metrics));
        Attack { server, bystanders, wave, end, metrics, ticks, sessions, rooms }
    }

    /// An address that no earlier wave has used.
    pub fn fresh_address(&self, number: usize) -> String {
        proxied::address(self.wave * 50_000 + number)
    }

    /// False once an attack without an end of its own has lasted long enough.
    pub fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }

    /// Returns when the members have chatted for `rounds` more rounds.
    pub fn while_members_chat(&self, rounds: usize) {
        self.bystanders.while_they_chat(rounds);
    }

    /// Polls `condition` once in each round of the members. Fails after a deadline.
    pub fn until(&self, what: &str, mut condition: impl FnMut(&Attack) -> bool) {
        let deadline = Instant::now() + 3 * DEADLINE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "timed out waiting until {what}");
            self.while_members_chat(1);
        }
    }

    pub fn metric(&self, name: &str) -> u64 {
        self.server.metric(name)
    }

    /// The growth of a metric since the beginning of the attack.
    pub fn grown(&self, name: &str) -> u64 {
        self.metric(name) - metric_in(&self.metrics, name)
    }

    /// Opens a session from the attacker's address `number`.
    pub fn session(&self, number: usize) -> String {
        let (name, address) = (format!("attacker {number}"), proxied::address(number));
        let id = proxied::session(self.server, &name, &address);
        self.remember_session(&id);
        id
    }

    /// The session is ended after the attack.
    pub fn remember_session(&self, id: &str) {
        self.sessions.lock().unwrap().push(id.to_owned());
    }

    pub fn room(&self, session: &str) -> String {
        let id = proxied::room(self.server, session, &proxied::address(0));
        self.remember_room(&id, session);
        id
    }

    /// The room is deleted after the attack.
    pub fn remember_room(&self, id: &str, owner: &str) {
        self.rooms.lock().unwrap().push((id.to_owned(), owner.to_owned()));
    }

    /// The room has been deleted.
    pub fn forget_room(&self, id: &str) {
        self.rooms.lock().unwrap().retain(|(other, _)| other != id);
    }

    /// Prepares something. The members chat meanwhile, but the report leaves their latencies out.
    pub fn unmeasured<T>(&self, prepare: impl FnOnce() -> T) -> T {
        self.bystanders.set_unmeasured(true);
        let prepared = prepare();
        self.bystanders.set_unmeasured(false);
        *self.ticks.lock().unwrap() = Ticks::of(&self.server.metrics());
        prepared
    }

    pub fn socket(&self, room: &str, session: &str, number: usize) -> Ws {
        proxied::socket(self.server, room, session, &proxied::address(number))
    }

    /// Sockets in rooms of the attacker's own, from which nothing has been read.
    pub fn sockets(&self, count: usize) -> Vec<Ws> {
        let mut all = Vec::new();
        while all.len() < count {
            let session = self.session(all.len());
            let room = self.room(&session);
            let some = 0..(count - all.len()).min(20);
            all.extend(some.map(|_| self.socket(&room, &session, all.len())).collect::<Vec<_>>());
        }
        all
    }

    fn forget(&self) {
        // What the attack made the server hold is freed when the ends of its connections are read. Until
        // then a new connection may be refused for lack of memory.
        wait_until("the server has capacity again", || is_healthy(self.server));
        let rooms = std::mem::take(&mut *self.rooms.lock().unwrap()).into_iter();
        let rooms = rooms.map(|(id, owner)| delete(&format!("/rooms/{id}")).session(&owner));
        let sessions = std::mem::take(&mut *self.sessions.lock().unwrap()).into_iter();
        let sessions = sessions.map(|id| delete("/sessions/me").session(&id));
        let requests: Vec<Request> = rooms.chain(sessions).collect();
        for answer in proxied::ask_all(self.server, &requests) {
            answer.expect(200);
        }
    }
}

fn traces(server: &Server) -> Traces {
    let text = server.metrics();
    Traces {
        descriptors: server.descriptors(),
        connections: metric_in(&text, "chat_connections{protocol=\"http\"}"),
        websockets: metric_in(&text, "chat_connections{protocol=\"websocket\"}"),
        sessions: metric_in(&text, "chat_sessions"),
        rooms: metric_in(&text, "chat_rooms"),
        members: metric_in(&text, "chat_members"),
        timers: metric_in(&text, "chat_timers"),
    }
}

/// The traces, once only the members and the connection that asks are left.
fn settled(server: &Server) -> Traces {
    let members = (ROOMS * MEMBERS) as u64;
    let mut last = traces(server);
    wait_until("only the members are connected", || {
        last = traces(server);
        (last.connections, last.websockets) == (1, members)
    });
    last
}

fn wait_for_traces(server: &Server, before: &Traces, patience: Duration) {
    // There may be fewer timers than before: the server may have forgotten the members' addresses.
    let ours = |server| match traces(server) {
        last if patience.is_zero() || last.timers <= before.timers => {
            Traces { timers: before.timers, ..last }
        }
        last => last,
    };
    let deadline = Instant::now() + patience.max(DEADLINE);
    let mut last = ours(server);
    while last != *before {
        assert!(Instant::now() < deadline, "left behind: {last:?}, before: {before:?}");
        thread::sleep(Duration::from_millis(10));
        last = ours(server);
    }
}

/// `full` under `SLOW_TESTS=1`, otherwise `quick`.
pub fn scale(full: usize, quick: usize) -> usize {
    if is_slow() { full } else { quick }
}

pub fn is_reporting() -> bool {
    env::var_os("ATTACK_REPORT").is_some()
}

/// Full attacks and reports run one after the other.
fn turn() -> Option<MutexGuard<'static, ()>> {
    (is_slow() || is_reporting()).then(alone)
}

/// `wished`, or as many connections as the descriptor limit allows, with a message.
pub fn connections(wished: usize) -> usize {
    const ELSE: usize = 200;
    let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize);
    let count = wished.min(limit.saturating_sub(ELSE));
    if count < wished {
        say(&format!("only {count} of {wished} connections: the descriptor limit is {limit}"));
    }
    count
}

fn report(
    what: &str,
    [calm, attacked]: &Latencies,
    longest_tick: f64,
    empty_kib: u64,
    resident_kib: u64,
) {
    if !is_reporting() {
        return;
    }
    static HEAD: Once = Once::new();
    HEAD.call_once(|| {
        say(&format!(
            "{:33}|{:>8}{:>8}{:>8} |{:>8}{:>8}{:>8} |{:>6} |{:>8} |{:>7}{:>7}",
            "attack",
            "p50",
            "p99",
            "calm ms",
            "p50",
            "p99",
            "max ms",
            "p99/",
            "tick ms",
            "MiB",
            "most"
        ));
    });
    let ms = |latencies: &[Duration], part: f64| percentile(latencies, part).as_secs_f64() * 1000.0;
    let ratio = ms(attacked, 0.99) / ms(calm, 0.99);
    let mib = |kib: u64| kib as f64 / 1024.0;
    say(&format!(
        "{what:33}|{:8.2}{:8.2}{:8.2} |{:8.2}{:8.2}{:8.2} |{ratio:6.2} |{:>8} |{:7.1}{:7.1}",
        ms(calm, 0.5),
        ms(calm, 0.99),
        ms(calm, 1.0),
        ms(attacked, 0.5),
        ms(attacked, 0.99),
        ms(attacked, 1.0),
        format!("≤{}", longest_tick * 1000.0),
        mib(empty_kib),
        mib(resident_kib),
    ));
}

fn percentile(latencies: &[Duration], part: f64) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
}

/// Prints a line. The test harness would hide one from `println!`.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
