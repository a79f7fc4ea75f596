//! The server's core over lines in memory, a time that is moved by hand, and a seed.
//!
//! Unlike the simulation's it believes nothing about what peers say: they say anything.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use disposable_chat::clock::{Now, SeededEntropy, Wall};
use disposable_chat::config::Config;
use disposable_chat::ledger::Ledger;
use disposable_chat::server::{ConnectionKey, Core, Purpose};

use crate::pipe::{self, ServerEnd, PeerEnd, StreamState, Network};
use crate::wire::{self, Response};

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A peer's end of a connection.
pub struct Line {
    peer: PeerEnd,
    key: Option<ConnectionKey<ServerEnd>>,
    /// On its way to the server.
    unsent: VecDeque<u8>,
    /// All that the server has sent.
    pub heard: Vec<u8>,
    pub seen: StreamState,
}

pub struct World {
    pub core: Core<ServerEnd>,
    pub lines: Vec<Line>,
    now: Now,
    network: Network,
    ledger: Ledger,
    ledger_at_start: usize,
}

impl World {
    pub fn new(config: &Config, network: Network) -> World {
        let ledger = Ledger::new();
        let mut core = Core::new(config, 100, Box::new(SeededEntropy::new(1)), &ledger);
        let now = Now { wall: Wall::from_micros(1_755_611_100_000_000), ..Now::default() };
        core.begin(now);
        core.tick();
        let ledger_at_start = ledger.total();
        World { core, lines: Vec::new(), now, network, ledger, ledger_at_start }
    }

    /// A peer connects from there; the number of its line.
    pub fn connect(&mut self, from: IpAddr) -> usize {
        let (peer, end) = pipe::pair(self.lines.len() as u64, self.network);
        let key = self.core.accept(end, Some(from), Purpose::Chat);
        let (unsent, heard) = (VecDeque::new(), Vec::new());
        self.lines.push(Line { peer, key, unsent, heard, seen: StreamState::Open });
        self.lines.len() - 1
    }

    pub fn send(&mut self, line: usize, bytes: &[u8]) {
        self.lines[line].unsent.extend(bytes);
    }

    /// The peer ends its direction, or (`gone`) both, after all it has sent.
    pub fn finish(&mut self, line: usize, gone: bool) {
        self.settle();
        self.lines[line].peer.pipe().finish(gone);
    }

    pub fn reset(&mut self, line: usize) {
        self.lines[line].unsent.clear();
        self.lines[line].peer.pipe().reset();
    }

    /// A request on a line that nothing is said on meanwhile, and its answer.
    pub fn ask(&mut self, line: usize, request: &[u8]) -> Response {
        let asked = self.lines[line].heard.len();
        self.send(line, request);
        self.settle();
        let mut answer = self.lines[line].heard.split_off(asked);
        let response = wire::take_response(&mut answer, false).expect("an answer");
        assert!(answer.is_empty(), "two answers to one request");
        response
    }

    /// One turn of the loop; what the server says is heard. Whether anything moved.
    pub fn turn(&mut self) -> bool {
        let mut moved = false;
        self.core.begin(self.now);
        for line in &mut self.lines {
            let mut pipe = line.peer.pipe();
            moved |= pipe.deliver(&mut line.unsent, usize::MAX) > 0;
            let (Some(key), Some(edges)) = (line.key, pipe.poll()) else { continue };
            moved = true;
            if edges.readable {
                self.core.on_readable(key, edges.hangup);
            }
            if edges.writable {
                self.core.on_writable(key);
            }
        }
        self.core.tick();
        self.core.check_invariants();
        assert_eq!(self.core.counters().panics, 0, "a panic was caught");
        for line in &mut self.lines {
            let (bytes, seen) = line.peer.pipe().read_as_peer(usize::MAX);
            moved |= !bytes.is_empty() || seen != line.seen;
            line.heard.extend_from_slice(&bytes);
            line.seen = seen;
        }
        moved || self.core.has_work()
    }

    /// Turns until nothing moves. Then nothing may be left unread.
    pub fn settle(&mut self) {
        let mut turns = 0;
        while self.turn() {
            turns += 1;
            assert!(turns < 100_000, "the loop spins");
        }
    }

    /// Bytes of a line that the server has not read.
    pub fn unread(&self, line: usize) -> usize {
        self.lines[line].peer.pipe().unread_bytes() + self.lines[line].unsent.len()
    }

    /// Time passes, but none in which a timer would have fired before.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now.mono.after(time);
        while let Some(deadline) = self.core.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.after(deadline.since(self.now.mono));
            self.settle();
        }
        self.now = self.now.after(until.since(self.now.mono));
        self.settle();
    }

    /// Everybody goes, all time passes, and nothing is left.
    pub fn end(&mut self) {
        for line in 0..self.lines.len() {
            self.finish(line, true);
        }
        self.settle();
        let mut deadlines = 0;
        while let Some(deadline) = self.core.next_deadline() {
            self.now = self.now.after(deadline.since(self.now.mono));
            self.settle();
            deadlines += 1;
            assert!(deadlines < 10_000, "something is armed for ever");
        }
        assert_eq!(self.core.connection_count(), 0, "connections");
        assert_eq!(self.core.chat().session_count(), 0, "sessions");
        assert_eq!(self.core.chat().room_count(), 0, "rooms");
        assert_eq!(self.core.chat().member_count(), 0, "members");
        assert_eq!(self.core.timer_count(), 0, "timers");
        assert_eq!(self.core.counters().websockets, 0, "the gauge of WebSockets");
        assert_eq!(self.ledger.total(), self.ledger_at_start, "the ledger");
    }
}
