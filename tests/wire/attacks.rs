//! Attacks that once worked, each with what went wrong.

use crate::client::{CLOSE, FIN, Http, PING, PONG, Stream, close_payload, frame, upgrade};
use crate::server::Server;

/// Whoever pinged and never read was cut off without a word, not closed as too slow.
#[test]
fn who_pings_and_never_reads_is_told_that_it_is_too_slow() {
    let flags = ["--outbox", "64K", "--linger-timeout", "1m", "--ping-interval", "1h"];
    let server = Server::start(&flags);
    let (room, _ana, mut bob) = server.room_of_two();
    let session = server.session("carl");
    let http = Http::over(Stream::connect_narrow(server.address()), server.address());
    let mut ws = http.upgrade(&upgrade(&format!("/ws/{room}?session_id={session}")));
    ws.expect_join("carl");
    bob.expect_join("carl");
    let pings = frame(FIN | PING, [b'x'; 125]).repeat(100);
    for _ in 0..300 {
        ws.send(&pings);
    }
    bob.expect_left("carl");
    let close = loop {
        let frame = ws.frame();
        match frame.opcode {
            PONG => {}
            CLOSE => break frame.payload,
            other => panic!("opcode {other}"),
        }
    };
    assert_eq!(close, close_payload(1013, "too slow"));
}
