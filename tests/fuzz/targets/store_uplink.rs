//! A hostile store: whatever it sends, and whenever the connection breaks, the uplink does not panic, keeps
//! no more than its bounds, gives each call exactly one answer, and never waits for a time that has passed.
//!
//! Owns these properties. Must not know RESP3, for which the unit tests have examples. An input is a
//! script, in which each byte is a step, so that a file of the corpus can be read: `CWRcoKK` connects, is
//! welcomed, resumes, makes two calls and has two replies.
#![no_main]

use std::collections::BTreeSet;
use std::time::Duration;

use disposable_chat::clock::{Mono, SeededEntropy};
use disposable_chat::cluster::library::{Function, Library};
use disposable_chat::cluster::{
    Args, CALL_BYTES_MAX, CALLS_MAX, Login, REPLY_BYTES_MAX, StoreCall, Unavailable, Uplink,
    UplinkConfig, UplinkEvent,
};
use libfuzzer_sys::fuzz_target;

const TIMEOUT: Duration = Duration::from_secs(5);
const PARTITIONS: u16 = 2;

/// What may be kept: two queues of calls with their arguments and what is sent of them, the bytes of a
/// reply, and the calls themselves.
const HEAP_BYTES_MAX: usize = 2 * (6 * CALL_BYTES_MAX + 2 * REPLY_BYTES_MAX + 4 * CALLS_MAX * 256);

const WELCOME: &[u8] = b"+OK\r\n*1\r\n+master\r\n+redis_version:7.0.0\r\n+OK\r\n\
    >3\r\n+ssubscribe\r\n+c\r\n:1\r\n>3\r\n+ssubscribe\r\n+c\r\n:2\r\n\
    *3\r\n+KEPT\r\n+\r\n:1\r\n*3\r\n+KEPT\r\n+\r\n:1\r\n";

/// The beginning of a reply that never ends.
const ENDLESS: &[u8] = b"*100000\r\n";
const PIECE: [u8; 64 * 1024] = [b'_'; 64 * 1024];

fuzz_target!(|data: &[u8]| {
    let mut script = Script::new();
    let mut steps = data.iter().copied();
    while let Some(step) = steps.next() {
        script.step(step, &mut steps);
    }
    script.end();
});

struct Script {
    uplink: Uplink<usize>,
    entropy: SeededEntropy,
    now: Mono,
    events: Vec<UplinkEvent<usize>>,
    /// The number of calls that were accepted, each of which has its number as its token.
    accepted: usize,
    unanswered: BTreeSet<usize>,
    is_connected: bool,
    /// The queue was filled, which takes so long that once is enough.
    has_filled: bool,
}

impl Script {
    fn new() -> Script {
        let config = UplinkConfig {
            prefix: "dc".to_owned(),
            partitions: PARTITIONS,
            timeout: TIMEOUT,
            lease: Duration::from_secs(10),
            ttl_max: Duration::from_secs(600),
            terms: "1/1/store".to_owned(),
            secret_draft: String::new(),
        };
        Script {
            uplink: Uplink::new(config, Library::of("@LIB@")),
            entropy: SeededEntropy::new(1),
            now: Mono::ZERO,
            events: Vec::new(),
            accepted: 0,
            unanswered: BTreeSet::new(),
            is_connected: false,
            has_filled: false,
        }
    }

    fn step(&mut self, step: u8, rest: &mut impl Iterator<Item = u8>) {
        match step {
            b'C' => {
                if self.uplink.poll_connect(self.now, &mut self.entropy) {
                    self.uplink.on_connected(self.now, Login::default());
                }
            }
            b'W' => self.says(WELCOME),
            b'R' => self.uplink.resume(self.now),
            b'L' => self.uplink.on_lost(self.now, &"it broke", &mut self.events),
            b'T' => self.waits(u64::from(rest.next().unwrap_or(1)) * 100),
            b'D' => self.reaches_deadline(),
            b'O' => _ = self.uplink.output(),
            b'S' => {
                let settled = self.uplink.settle(&mut |token, _| token % 2 == 0);
                settled.into_iter().for_each(|token| self.answered(token));
            }
            b'c' => _ = self.calls(Function::Touch, 0, false, 3),
            b'l' => _ = self.calls(Function::Exit, PARTITIONS - 1, true, 3),
            b'b' => _ = self.calls(Function::Post, 0, false, 16 * 1024),
            b'o' => self.calls_once(false),
            b'u' => self.calls_once(true),
            // As many as there is capacity for, by their bytes; and many that are short.
            b'M' if !std::mem::replace(&mut self.has_filled, true) => {
                while self.calls(Function::Exit, 1, false, 32 * 1024).is_ok() {}
            }
            b'm' => (0..512).for_each(|_| _ = self.calls(Function::Exit, 1, true, 0)),
            b'F' => self.says(b"-FENCED\r\n"),
            b'E' => self.says(b"-OOM command not allowed\r\n"),
            b'N' => self.says(b"-ERR Function not found\r\n"),
            b'P' => self.says(b">3\r\n+smessage\r\n+dc:{0}:to:0\r\n+N hello\r\n"),
            b'Z' => self.says(b">3\r\n+ssubscribe\r\n+c\r\n:1\r\n"),
            b'G' => self.says(ENDLESS),
            b'g' => self.says(&PIECE),
            b'B' => {
                let length = usize::from(rest.next().unwrap_or_default());
                let bytes: Vec<u8> = rest.take(length).collect();
                self.says(&bytes);
            }
            _ => self.says(b"*2\r\n+OK\r\n:1\r\n"),
        }
        self.check();
    }

    fn says(&mut self, bytes: &[u8]) {
        // A stream is read only while there is one.
        if !self.uplink.is_down() {
            self.uplink.on_bytes(self.now, bytes, &mut self.events);
        }
    }

    fn calls(
        &mut self,
        function: Function,
        partition: u16,
        is_lasting: bool,
        bytes: usize,
    ) -> Result<(), Unavailable> {
        let args = Args::new().text(vec![b'a'; bytes]);
        let call = StoreCall { partition, function, args, is_lasting };
        let has_capacity = self.uplink.has_capacity_for(function);
        let called = self.uplink.call(self.now, call, self.accepted);
        assert_eq!(called.is_ok(), has_capacity && self.uplink.is_up());
        called.map(|()| self.is_accepted())
    }

    fn calls_once(&mut self, is_function: bool) {
        let (function, args) = (Function::Resync, Args::new());
        let call = StoreCall { partition: 0, function, args, is_lasting: false };
        let called = match is_function {
            true => self.uplink.call_once(self.now, call, self.accepted),
            false => self.uplink.command(self.now, &[b"XRANGE"], self.accepted),
        };
        if called.is_ok() {
            assert!(self.uplink.is_connected());
            self.is_accepted();
        }
    }

    fn is_accepted(&mut self) {
        self.unanswered.insert(self.accepted);
        self.accepted += 1;
    }

    fn waits(&mut self, millis: u64) {
        self.now = self.now.after(Duration::from_millis(millis));
        self.uplink.sweep(self.now, &mut self.events);
        // What is due is done. Whether to connect, `poll_connect` is asked.
        let is_due = self.uplink.next_deadline().is_some_and(|deadline| deadline <= self.now);
        assert!(!is_due || self.uplink.is_down(), "it would be woken again and again");
    }

    fn reaches_deadline(&mut self) {
        if let Some(deadline) = self.uplink.next_deadline() {
            self.now = self.now.max(deadline);
            self.waits(0);
        }
    }

    fn answered(&mut self, token: usize) {
        assert!(self.unanswered.remove(&token), "call {token} is answered twice, or was refused");
    }

    fn check(&mut self) {
        for event in std::mem::take(&mut self.events) {
            match event {
                UplinkEvent::Reply(token, _) | UplinkEvent::Failed(token, _) => {
                    self.answered(token);
                }
                UplinkEvent::Connected { .. } => {
                    assert!(!std::mem::replace(&mut self.is_connected, true));
                }
                UplinkEvent::Lost => assert!(std::mem::take(&mut self.is_connected)),
                UplinkEvent::Push { .. } | UplinkEvent::Fatal(_) => {}
            }
        }
        assert_eq!(self.uplink.is_connected(), self.is_connected);
        assert_eq!(self.uplink.counters().in_flight, self.unanswered.len() as u64);
        let held = self.uplink.heap_bytes();
        assert!(held <= HEAP_BYTES_MAX, "{held} bytes are kept");
        if self.uplink.is_down() {
            assert!(self.uplink.output().is_none(), "there is no stream to send it on");
        }
    }

    /// The connection is lost and no other one comes: what is not handed back is answered in time.
    fn end(mut self) {
        self.uplink.on_lost(self.now, &"the end", &mut self.events);
        self.check();
        self.waits(TIMEOUT.as_millis() as u64);
        self.check();
        let lasting = self.uplink.settle(&mut |_, _| true);
        lasting.into_iter().for_each(|token| self.answered(token));
        self.check();
        assert_eq!(self.unanswered.len(), 0, "calls without an answer");
    }
}
