//! Messages that are begun and finished late or never.
//!
//! Owns these situations. Must not know how the server keeps an unfinished message. The invariant: a
//! deadline is checked to the grain of the timers, on both sides.

use std::time::Duration;

use disposable_chat::config::{Config, Rate};
use disposable_chat::ledger::Account;

use crate::pipe::RELIABLE;
use crate::scenarios::room_with_guests;
use crate::wire::{PING, TEXT};
use crate::world::World;

/// The default of `--body-timeout`.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Timers are rounded up to a multiple of this.
const GRAIN: Duration = Duration::from_millis(50);

/// The first byte of a frame of text that is not the last of its message, and of one that is the last
/// but not the first (RFC 6455 §5.2).
const FIRST: u8 = 0x01;
const MIDDLE: u8 = 0x00;
const LAST: u8 = 0x80;

fn config() -> Config {
    Config { message_rate: Rate { per_second: 0, burst: 1 }, ..Config::default() }
}

/// Sends the beginning of something that the peer does not finish.
fn begin(world: &mut World, peer: usize, bytes: &[u8]) {
    world.peers[peer].ws_mut().expect("a WebSocket").closes_possible.insert(1008);
    world.send(peer, bytes);
}

fn close_of(world: &World, peer: usize) -> Option<(u16, &str)> {
    let ws = world.peers[peer].ws()?;
    ws.closed.as_ref().map(|(code, reason)| (*code, &reason[..]))
}

const TIMED_OUT: Option<(u16, &str)> = Some((1008, "message timeout"));

fn messages_received(world: &World, peer: usize) -> usize {
    world.peers[peer].ws().map_or(0, |ws| ws.seen.len())
}

fn chat(text: &str) -> Vec<u8> {
    format!(r#"{{"type":"chat","message":"{text}"}}"#).into_bytes()
}

#[test]
fn whatever_is_begun_and_not_finished_is_closed_at_its_deadline() {
    let (mut world, guests) = room_with_guests(&config(), RELIABLE, 6);
    let whole = world.frame(TEXT, &chat("never whole"));
    let ping = world.frame(PING, b"half");
    let fragment = world.frame(FIRST, b"{");
    let begun = [
        &whole[..1],
        &whole[..5],
        &whole[..30],
        &fragment,
        &ping[..7],
        &[&fragment[..], &ping[..4]].concat(),
    ];
    for (guest, bytes) in guests.iter().zip(begun) {
        begin(&mut world, *guest, bytes);
    }
    world.settle();
    world.pass_time(TIMEOUT - GRAIN);
    world.settle();
    assert!(guests.iter().all(|guest| close_of(&world, *guest).is_none()), "closed too early");
    world.pass_time(GRAIN * 2);
    world.settle();
    for guest in &guests {
        assert_eq!(close_of(&world, *guest), TIMED_OUT);
        assert_eq!(world.peers[*guest].ws().unwrap().pings_received, 0);
    }
    assert_eq!(world.rooms[0].names_present(), ["host"], "they have left at once");
    world.close_all();
}

/// Regression: a peer that sent one byte every 15 s could keep an unfinished message for ever.
#[test]
fn no_byte_fragment_or_ping_extends_the_deadline() {
    let (mut world, guests) = room_with_guests(&config(), RELIABLE, 3);
    let whole = world.frame(TEXT, &chat("never whole"));
    let fragment = world.frame(FIRST, b"{");
    for (guest, bytes) in guests.iter().zip([&whole[..1], &fragment, &fragment]) {
        begin(&mut world, *guest, bytes);
    }
    world.settle();
    let step = Duration::from_millis(1000);
    for second in 1..20 {
        world.pass_time(step);
        world.send(guests[0], &whole[second..second + 1]);
        let more = world.frame(MIDDLE, b" ");
        world.send(guests[1], &more);
        let ping = world.ping_frame(guests[2]);
        world.send(guests[2], &ping);
        world.settle();
        assert!(guests.iter().all(|guest| close_of(&world, *guest).is_none()), "at {second} s");
    }
    world.pass_time(step + GRAIN);
    world.settle();
    assert_eq!([0, 1, 2].map(|guest| close_of(&world, guests[guest])), [TIMED_OUT; 3]);
    world.close_all();
}

#[test]
fn each_message_has_the_whole_time() {
    let (mut world, guests) = room_with_guests(&config(), RELIABLE, 1);
    let guest = guests[0];
    let before = messages_received(&world, guest);
    let late = TIMEOUT - GRAIN;
    let begin_next = world.frame(FIRST, &chat("late")[..9]);
    let finish = world.frame(LAST, &chat("late")[9..]);
    world.send(guest, &begin_next);
    world.settle();
    for _ in 0..4 {
        world.pass_time(late);
        // The end of one message and the beginning of the next arrive together.
        world.send(guest, &[&finish[..], &begin_next].concat());
        world.settle();
    }
    assert_eq!(messages_received(&world, guest), before + 4);
    world.pass_time(late);
    begin(&mut world, guest, b"");
    world.settle();
    assert_eq!(close_of(&world, guest), None);
    world.pass_time(GRAIN * 2);
    world.settle();
    assert_eq!(close_of(&world, guest), TIMED_OUT);
    world.close_all();
}

#[test]
fn after_a_message_that_came_in_pieces_the_peer_is_pinged_again() {
    let (mut world, guests) = room_with_guests(&config(), RELIABLE, 1);
    let guest = guests[0];
    let whole = world.frame(TEXT, &chat("in pieces"));
    world.send(guest, &whole[..9]);
    world.settle();
    world.pass_time(Duration::from_secs(15));
    world.send(guest, &whole[9..]);
    world.settle();
    world.pass_time(Duration::from_millis(19_900));
    world.settle();
    assert_eq!(world.peers[guest].ws().unwrap().pings_received, 0);
    world.pass_time(Duration::from_millis(150));
    world.settle();
    assert_eq!(world.peers[guest].ws().unwrap().pings_received, 1);
    world.close_all();
}

/// The server did not run for a while, and more has arrived than it reads in one tick: the deadlines
/// of many messages pass although the rest of each is there.
#[test]
fn what_had_arrived_by_the_deadline_counts_although_the_server_reads_it_late() {
    let (mut world, guests) = room_with_guests(&config(), RELIABLE, 60);
    let text = "x".repeat(3000);
    let (first, last) = (chat(&text)[..9].to_vec(), chat(&text)[9..].to_vec());
    for guest in &guests {
        world.send_frame(*guest, FIRST, &first);
    }
    world.settle();
    let before: Vec<_> = guests.iter().map(|guest| messages_received(&world, *guest)).collect();
    for guest in &guests {
        world.send_frame(*guest, LAST, &last);
        world.deliver(*guest, usize::MAX);
    }
    world.advance_clocks(TIMEOUT + GRAIN);
    world.tick(true);
    assert!(world.core.counters().received < guests.len() as u64, "some are read later");
    world.settle();
    for (guest, before) in guests.iter().zip(before) {
        assert_eq!(close_of(&world, *guest), None);
        assert_eq!(messages_received(&world, *guest), before + guests.len());
    }
    world.close_all();
}

/// The time in which a connection waits for a name, and is not read from, is not counted.
#[test]
fn the_time_of_a_probe_does_not_count() {
    let config = Config { body_timeout: Duration::from_secs(1), ..config() };
    let (mut world, _) = room_with_guests(&config, RELIABLE, 0);
    let (dead, namesake) = (world.add_user("namesake"), world.add_user("NAMESAKE"));
    let holder = world.enter(dead, 0);
    world.settle();
    world.stall(holder);
    let waiting = world.enter(namesake, 0);
    world.send_frame(waiting, FIRST, &chat("patient")[..9]);
    world.deliver(waiting, usize::MAX);
    world.tick(true);
    world.settle();
    world.pass_time(Duration::from_millis(3050));
    world.settle();
    assert!(world.peers[holder].is_dropped());
    assert_eq!(messages_received(&world, waiting), 1, "its own join");
    world.pass_time(Duration::from_millis(900));
    world.send_frame(waiting, LAST, &chat("patient")[9..]);
    world.settle();
    assert_eq!((close_of(&world, waiting), messages_received(&world, waiting)), (None, 2));
    // Now it is read from, and has no more time than others.
    begin(&mut world, waiting, &[FIRST]);
    world.settle();
    world.pass_time(Duration::from_millis(1050));
    world.settle();
    assert_eq!(close_of(&world, waiting), TIMED_OUT);
    world.close_all();
}

/// A flood of pings inside a message keeps the server from reading to the end of its input. The
/// connection ends nevertheless, one more timeout later at the latest.
#[test]
fn a_flood_inside_a_message_ends_with_it() {
    let (mut world, guests) = room_with_guests(&config(), RELIABLE, 1);
    let guest = guests[0];
    let fragment = world.frame(FIRST, b"{");
    begin(&mut world, guest, &fragment);
    world.peers[guest].must_be_served = false;
    world.settle();
    let flood = world.frame(PING, b"").repeat(40_000);
    let mut time = Duration::ZERO;
    while close_of(&world, guest).is_none() && time < 3 * TIMEOUT {
        world.send(guest, &flood);
        for _ in 0..4 {
            world.deliver_all(usize::MAX);
            world.tick(true);
            world.receive_all(usize::MAX);
        }
        world.advance_clocks(Duration::from_secs(1));
        time += Duration::from_secs(1);
    }
    assert!(time >= TIMEOUT && time <= 2 * TIMEOUT + Duration::from_secs(2), "{time:?}");
    assert_eq!(close_of(&world, guest), TIMED_OUT);
    world.close_all();
}

/// Regression: the ledger counted what a header declared. The headers of a few thousand frames of
/// 64 KiB took the server to 90 % of its ceiling, and nobody could enter.
#[test]
fn the_ledger_counts_what_has_arrived() {
    let (mut world, guests) = room_with_guests(&config(), RELIABLE, 100);
    let burdens = |world: &World| world.ledger.bytes(Account::Burdens);
    let idle = burdens(&world);
    let whole = world.frame(TEXT, &[b' '; 60_000]);
    for guest in &guests {
        begin(&mut world, *guest, &whole[..9]);
    }
    world.settle();
    let begun = burdens(&world) - idle;
    assert!(begun <= guests.len() * 200, "{begun} bytes for {} headers", guests.len());
    for guest in &guests {
        begin(&mut world, *guest, &whole[9..30_000]);
    }
    world.settle();
    let half = burdens(&world) - idle;
    let arrived = guests.len() * 30_000;
    assert!((arrived..arrived * 5 / 4 + begun).contains(&half), "{half} bytes for {arrived}");
    world.pass_time(TIMEOUT + GRAIN);
    world.settle();
    assert!(guests.iter().all(|guest| close_of(&world, *guest) == TIMED_OUT));
    world.close_all();
}
