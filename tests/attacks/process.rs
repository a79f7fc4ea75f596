//! Attacks on the process as a whole: no descriptors left, and SIGTERM under attack.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{FIN, PING, Stream, frame, get, post};
use crate::server::{Address, DEADLINE};
use crate::trial::{scale, under_attack_with_descriptors, until_terminated};

/// Connections without a free descriptor are refused, or wait in the backlog.
#[test]
fn exhausted_descriptors_disturb_no_member() {
    let descriptors = 120;
    under_attack_with_descriptors("descriptors exhausted", descriptors, |attack| {
        let connect = |_| {
            let mut http = attack.server.http();
            http.send(get("/ping").bytes("a"));
            http
        };
        let all: Vec<_> = (0..scale(2000, 400)).map(connect).collect();
        attack.while_members_chat(scale(120, 4));
        assert!(attack.server.descriptors() <= descriptors as usize);
        drop(all);
    });
}

#[test]
fn sigterm_under_attack_closes_every_member_and_ends_the_process_in_time() {
    until_terminated("SIGTERM in the middle", |address, sockets| {
        let until = Instant::now() + 3 * DEADLINE;
        let opening = b"POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n";
        let listings = get("/rooms/all?detail=true").bytes("a").repeat(200);
        let sessions = post("/sessions").body("{\"username\":").bytes("a").repeat(20);
        let pings = frame(FIN | PING, [b'x'; 125]).repeat(100);
        thread::scope(|scope| {
            scope.spawn(|| trickle(address, opening, until));
            scope.spawn(|| storm(address, &listings, until));
            scope.spawn(|| storm(address, &sessions, until));
            for stream in sockets {
                scope.spawn(|| push(stream, &pings, until));
            }
        });
    });
}

fn connect(address: &Address, until: Instant) -> Option<TcpStream> {
    let Address::Tcp(address) = address else { panic!("only TCP here") };
    let stream = TcpStream::connect(address).ok().filter(|_| Instant::now() < until)?;
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
    Some(stream)
}

/// Opens many connections and sends a byte on each now and then, until the server has closed them.
fn trickle(address: &Address, opening: &[u8], until: Instant) {
    let all = (0..scale(500, 50)).filter_map(|_| connect(address, until));
    let mut all: Vec<TcpStream> = all.collect();
    let mut bytes = opening;
    while !all.is_empty() && Instant::now() < until {
        all.retain_mut(|stream| stream.write_all(bytes).is_ok());
        bytes = b" ";
        thread::sleep(Duration::from_millis(10));
    }
}

/// Opens one connection after the other, sends many requests on each and closes it after the first bytes of a
/// response, until connecting fails.
fn storm(address: &Address, bytes: &[u8], until: Instant) {
    while let Some(mut stream) = connect(address, until) {
        let _ = stream.write_all(bytes);
        let _ = stream.read(&mut [0; 100]);
    }
}

fn push(stream: Stream, bytes: &[u8], until: Instant) {
    let Stream::Tcp(mut stream) = stream else { panic!("only TCP here") };
    while Instant::now() < until && stream.write_all(bytes).is_ok() {}
}
