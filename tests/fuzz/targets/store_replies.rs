//! The bytes of a cluster's store: what they mean does not depend on how they are cut into pieces, and
//! the uplink answers each call once, whatever the store sends.
//!
//! Owns these properties. Must not know RESP3, for which the unit tests have examples.
#![no_main]

use std::time::Duration;

use disposable_chat::clock::{Mono, SeededEntropy};
use disposable_chat::cluster::library::{Function, Library};
use disposable_chat::cluster::{
    Args, BadReply, CALLS_MAX, Login, ReplyReader, StoreCall, StoreEvent, Uplink, UplinkConfig,
    UplinkEvent,
};
use disposable_chat_fuzz::Cut;
use libfuzzer_sys::fuzz_target;

/// A welcome, so that most inputs reach an uplink that is in use.
const WELCOME: &[u8] = b"+OK\r\n*1\r\n+master\r\n+redis_version:7.0.0\r\n+OK\r\n\
    >3\r\n+ssubscribe\r\n+c\r\n:1\r\n*3\r\n+KEPT\r\n+\r\n:1\r\n";

fuzz_target!(|data: &[u8]| {
    let Some(cut) = Cut::of(data) else { return };
    let _ = cut.in_any_pieces(read);
    let _ = cut.in_any_pieces(run);
});

/// What the reader makes of the pieces. After an error nothing follows.
fn read(pieces: &[&[u8]]) -> (Vec<StoreEvent>, Result<(), BadReply>) {
    let (mut reader, mut events) = (ReplyReader::default(), Vec::new());
    for piece in pieces {
        reader.feed(piece);
        if let Err(bad) = reader.drain(|event| events.push(event)) {
            return (events, Err(bad));
        }
    }
    (events, Ok(()))
}

/// What an uplink with calls tells.
fn run(pieces: &[&[u8]]) -> Vec<String> {
    let config = UplinkConfig {
        prefix: "dc".to_owned(),
        partitions: 1,
        timeout: Duration::from_secs(5),
        lease: Duration::from_secs(10),
        ttl_max: Duration::from_secs(600),
        terms: "1/1/store".to_owned(),
        secret_draft: String::new(),
    };
    let (now, mut events, mut told) = (Mono::ZERO, Vec::new(), Vec::new());
    let mut uplink = Uplink::new(config, Library::of("@LIB@"));
    assert!(uplink.poll_connect(now, &mut SeededEntropy::new(1)));
    uplink.on_connected(now, Login::default());
    uplink.on_bytes(now, WELCOME, &mut events);
    assert!(matches!(events[..], [UplinkEvent::Connected { .. }]));
    events.clear();
    uplink.resume(now);
    const CALLS: usize = 16;
    for token in 0..CALLS {
        let (function, args) = (Function::Touch, Args::new());
        let call = StoreCall { partition: 0, function, args, is_lasting: false };
        let called = match token % 2 {
            0 => uplink.call(now, call, token),
            _ => uplink.command(now, &[b"XRANGE"], token),
        };
        assert!(called.is_ok());
    }
    for piece in pieces {
        uplink.on_bytes(now, piece, &mut events);
    }
    let answered = |events: &[UplinkEvent<usize>]| {
        let tokens = events.iter().filter_map(|event| match event {
            UplinkEvent::Reply(token, _) | UplinkEvent::Failed(token, _) => Some(*token),
            _ => None,
        });
        tokens.collect::<Vec<_>>()
    };
    told.extend(events.iter().map(|event| format!("{event:?}")));
    // When the connection is lost and the timeout is over, each call has got its one answer.
    uplink.on_lost(now, &"the end", &mut events);
    uplink.sweep(Mono::from_micros(5_000_000), &mut events);
    let mut tokens = answered(&events);
    tokens.sort_unstable();
    assert_eq!(tokens, (0..CALLS).collect::<Vec<_>>());
    assert_eq!(uplink.counters().in_flight, 0);
    assert!(CALLS < CALLS_MAX);
    told
}
