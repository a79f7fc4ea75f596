//! Idle sockets: their cost in memory, and a check that they cost no time.
//!
//! Owns connections that were used once and are silent now. Each has sent a message and received
//! those of the nine other members, so that the server has made all allocations that it delays until
//! the first use.

use std::thread;
use std::time::Duration;

use crate::Result;
use crate::clients::Clients;
use crate::machine;
use crate::server::Server;
use crate::traffic::{Load, Pace, Traffic};

const MEMBERS: usize = 10;

pub struct Idle {
    /// The connections stay open until this is dropped.
    pub clients: Clients,
    /// The growth of the server's memory per socket, including session, member and a share of the
    /// room.
    pub bytes_per_socket: f64,
}

/// Opens sockets on an empty server and sends one message on each.
pub fn connect(server: &Server, sockets: usize) -> Result<Idle> {
    let empty = server.resident()?;
    let rooms = sockets.div_ceil(MEMBERS);
    let mut clients = Clients::connect(server.address, &server.member_paths(rooms, MEMBERS)?)?;
    let mut traffic = Traffic::new(Load { rooms, members: MEMBERS, pace: Pace::PerSecond(1) });
    for room in 0..rooms {
        for _ in 0..MEMBERS {
            traffic.send(&mut clients, room)?;
        }
        clients
            .listen(Duration::ZERO, |connection, text, at| traffic.on_text(connection, text, at))?;
    }
    traffic.finish(&mut clients)?;
    clients.settle(Duration::from_millis(200))?;
    let grown = server.resident()?.saturating_sub(empty);
    Ok(Idle { clients, bytes_per_socket: grown as f64 / (rooms * MEMBERS) as f64 })
}

/// The context switches of the server in `length`, after it has become idle.
pub fn context_switches(server: &Server, length: Duration) -> Result<u64> {
    let process = server.process.ok_or("the server's process isn't known")?;
    let switches_in = |length| {
        let before = machine::context_switches(process)?;
        thread::sleep(length);
        Result::Ok(machine::context_switches(process)? - before)
    };
    // Earlier activity may have armed timers.
    for _ in 0..10 {
        if switches_in(Duration::from_secs(1))? == 0 {
            break;
        }
    }
    switches_in(length)
}
