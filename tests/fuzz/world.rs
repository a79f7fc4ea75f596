//! The server's core over in-memory streams, with a clock that the targets set and a fixed seed.
//!
//! Owns the loop and its peers. Must not know what a target checks. The world of the simulation in
//! `tests/sim` checks what each peer receives; this one cannot, because its peers send any bytes.
//! The invariant: after [`World::settle`] nothing moves any more.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::time::Duration;

use disposable_chat::clock::{Now, SeededEntropy, Wall};
use disposable_chat::config::Config;
use disposable_chat::ledger::Ledger;
use disposable_chat::server::{ConnectionKey, Core, Purpose};

use crate::pipe::{self, Network, PeerEnd, ServerEnd, StreamState};
use crate::wire::{self, Response};

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A peer of the server.
pub struct Peer {
    end: PeerEnd,
    key: Option<ConnectionKey>,
    /// Bytes sent that have not reached the server.
    unsent: VecDeque<u8>,
    /// All bytes that the server has sent.
    pub received: Vec<u8>,
    pub stream: StreamState,
}

pub struct World {
    pub core: Core<ServerEnd>,
    pub peers: Vec<Peer>,
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
        World { core, peers: Vec::new(), now, network, ledger, ledger_at_start }
    }

    /// A peer connects from this address. Returns its index in `peers`.
    pub fn connect(&mut self, from: IpAddr) -> usize {
        let (end, server_end) = pipe::pair(self.peers.len() as u64, self.network);
        let key = self.core.accept(server_end, Some(from), Purpose::Chat);
        let (unsent, received) = (VecDeque::new(), Vec::new());
        self.peers.push(Peer { end, key, unsent, received, stream: StreamState::Open });
        self.peers.len() - 1
    }

    pub fn send(&mut self, peer: usize, bytes: &[u8]) {
        self.peers[peer].unsent.extend(bytes);
    }

    /// The peer shuts down its direction, or closes both, after the bytes that it has sent.
    pub fn shut_down(&mut self, peer: usize, directions: Shutdown) {
        self.settle();
        self.peers[peer].end.pipe().shut_down(directions);
    }

    pub fn reset(&mut self, peer: usize) {
        self.peers[peer].unsent.clear();
        self.peers[peer].end.pipe().reset();
    }

    /// The response to a request. The peer must have no other request without a response.
    pub fn request(&mut self, peer: usize, request: &[u8]) -> Response {
        let before = self.peers[peer].received.len();
        self.send(peer, request);
        self.settle();
        let mut received = self.peers[peer].received.split_off(before);
        let response = wire::take_response(&mut received, false).expect("a response");
        assert!(received.is_empty(), "two responses to one request");
        response
    }

    /// One tick of the server's loop, before which all bytes arrive and after which all peers read.
    /// Returns whether anything moved.
    pub fn tick(&mut self) -> bool {
        let mut moved = false;
        self.core.begin(self.now);
        for peer in &mut self.peers {
            let mut pipe = peer.end.pipe();
            moved |= pipe.deliver(&mut peer.unsent, usize::MAX) > 0;
            let (Some(key), Some(edges)) = (peer.key, pipe.poll()) else { continue };
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
        assert_eq!(self.core.counters().panics, 0, "panics caught by the core");
        for peer in &mut self.peers {
            let (bytes, stream) = peer.end.pipe().read_as_peer(usize::MAX);
            moved |= !bytes.is_empty() || stream != peer.stream;
            peer.received.extend_from_slice(&bytes);
            peer.stream = stream;
        }
        moved || self.core.has_work()
    }

    /// Runs the loop until nothing moves, while no time passes.
    pub fn settle(&mut self) {
        let mut ticks = 0;
        while self.tick() {
            ticks += 1;
            assert!(ticks < 100_000, "the loop spins");
        }
    }

    /// Time passes, and each timer that is due in it fires at its deadline.
    pub fn pass_time(&mut self, time: Duration) {
        let until = self.now.mono.after(time);
        while let Some(deadline) = self.core.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.after(deadline.since(self.now.mono));
            self.settle();
        }
        self.now = self.now.after(until.since(self.now.mono));
        self.settle();
    }

    /// Every peer closes and all timers expire. Then the server must have nothing left.
    pub fn close_all(&mut self) {
        for peer in 0..self.peers.len() {
            self.shut_down(peer, Shutdown::Both);
        }
        self.settle();
        let mut deadlines = 0;
        while let Some(deadline) = self.core.next_deadline() {
            self.now = self.now.after(deadline.since(self.now.mono));
            self.settle();
            deadlines += 1;
            assert!(deadlines < 10_000, "a timer is armed again and again");
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
