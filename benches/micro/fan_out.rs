//! One message to everybody in a room, from the sender's bytes to everybody's: read, parsed,
//! accepted, encoded, queued and flushed. The writes go nowhere, and a kernel's would cost a
//! hundred times as much: what is measured is what we add to them.

use divan::Bencher;
use divan::counter::ItemsCount;

use crate::server::{SESSION_SOCKETS, Server};
use crate::wire;

#[divan::bench(args = [1, 100, 10_000])]
fn outboxes(bencher: Bencher, count: usize) {
    let said = "x".repeat(100);
    let text = format!(r#"{{"type":"chat","message":"{said}"}}"#);
    bench(bencher, count, &wire::frame(wire::TEXT, text.as_bytes(), 0x1234_5678));
}

fn bench(bencher: Bencher, count: usize, frame: &[u8]) {
    let mut server = Server::new();
    let (mut session, room, _) = server.room();
    let mut members = Vec::new();
    for n in 0..count {
        // A person with many tabs is announced once, or ten thousand were told of ten thousand.
        if n > 0 && n % SESSION_SOCKETS == 0 {
            session = server.session();
        }
        members.push(server.enter(&room, &session, ""));
    }
    let before: Vec<_> = members.iter().map(|member| member.heard()).collect();
    let mut times = 0;
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        times += 1;
        server.send(&members[0], frame);
        server.run();
    });
    let mut heard = members.iter().zip(before).map(|(member, before)| member.heard() - before);
    let first = heard.next().expect("the sender is there, too");
    assert!(times > 0 && first > 0, "nothing was heard");
    assert!(heard.all(|bytes| bytes == first), "not all have heard the same");
}
