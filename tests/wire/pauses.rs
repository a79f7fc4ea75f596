//! A server that is stopped for longer than its timeouts.

use std::time::Duration;

use crate::client::{PING, Ws};
use crate::server::{DEADLINE, Server};

const SOCKETS: usize = 100;

/// Sockets of a server that has pinged all of them.
fn pinged_sockets(server: &Server) -> Option<Vec<(Ws, Vec<u8>)>> {
    let host = server.session("host");
    let room = server.room(&host);
    let sessions: Vec<_> = (0..5).map(|n| server.session(&format!("name {n}"))).collect();
    let open = |n: usize| server.socket(&room, &sessions[n % sessions.len()]);
    let mut sockets: Vec<_> = (0..SOCKETS).map(|n| (open(n), Vec::new())).collect();
    for (socket, payload) in &mut sockets {
        *payload = loop {
            let frame = socket.try_frame().ok()??;
            if frame.opcode == PING {
                break frame.payload;
            }
        };
    }
    Some(sockets)
}

/// Regression: a quarter of the sockets was dropped, although all their pongs had arrived.
// contract §6.12 §6.18
#[test]
fn a_pong_that_arrives_while_the_server_is_stopped_counts() {
    // A busy machine can be too slow for the first timeout: then a socket is dropped before the server is stopped.
    for timeout in [Duration::from_millis(300), DEADLINE / 2] {
        let flags = ["--ping-interval", "50ms", "--ping-timeout"];
        let server =
            Server::start(&[&flags[..], &[&format!("{}ms", timeout.as_millis())]].concat());
        let Some(mut sockets) = pinged_sockets(&server) else { continue };
        let were_open = server.while_stopped(|| {
            let mut were_open = true;
            for (socket, payload) in &mut sockets {
                were_open &= !socket.readable_within(Duration::from_micros(1));
                socket.pong(&*payload);
            }
            // All deadlines pass.
            std::thread::sleep(timeout);
            were_open
        });
        if !were_open {
            continue; // Dropped, or it was sent something else.
        }
        for (socket, _) in &mut sockets {
            socket.expect_nothing();
        }
        return;
    }
    panic!("the machine is too slow");
}
