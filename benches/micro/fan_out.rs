//! The fan-out of one message to all members of a room: read, parse, accept, encode, queue, flush.
//! Writes to the streams in memory cost almost nothing. A kernel's would cost a hundred times as
//! much, so this measures only the server's own part.

use divan::Bencher;
use divan::counter::ItemsCount;

use crate::server::{SESSION_SOCKETS, Server};
use crate::{repeat, wire};

#[divan::bench(args = [1, 100, 10_000])]
fn outboxes(bencher: Bencher, count: usize) {
    send(count, &frame(), |once| bencher.counter(ItemsCount::new(count)).bench_local(once));
}

/// To the sender alone.
pub fn count_one(times: usize) {
    send(1, &frame(), |once| repeat(times, once));
}

pub fn count_hundred(times: usize) {
    send(100, &frame(), |once| repeat(times, once));
}

fn frame() -> Vec<u8> {
    let text = format!(r#"{{"type":"chat","message":"{}"}}"#, "x".repeat(100));
    wire::frame(wire::TEXT, text.as_bytes(), 0x1234_5678)
}

/// Calls `run` with a function that sends the frame to so many members.
fn send(count: usize, frame: &[u8], run: impl FnOnce(&mut dyn FnMut())) {
    let mut server = Server::new();
    let (mut session, room, _) = server.room();
    let mut members = Vec::new();
    for n in 0..count {
        // Each join of a session is announced to all members, so few sessions have many sockets.
        if n > 0 && n % SESSION_SOCKETS == 0 {
            session = server.session();
        }
        members.push(server.enter(&room, &session, ""));
    }
    let before: Vec<_> = members.iter().map(|member| member.received()).collect();
    let mut times = 0;
    run(&mut || {
        times += 1;
        server.send(&members[0], frame);
        server.run();
    });
    let mut received =
        members.iter().zip(before).map(|(member, before)| member.received() - before);
    let first = received.next().expect("the sender receives it too");
    assert!(times > 0 && first > 0, "nothing was delivered");
    assert!(received.all(|bytes| bytes == first), "deliveries differ");
}
