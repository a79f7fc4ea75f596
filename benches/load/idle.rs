//! Sockets on which nobody says anything any more: what they cost in memory, and that they cost no
//! time.
//!
//! Owns a crowd that has talked once and is silent now. Each has said something, so whatever a
//! server makes on first use is there, and each has heard what the nine others in the room have
//! said.

use std::thread;
use std::time::Duration;

use crate::Result;
use crate::crowd::Crowd;
use crate::machine;
use crate::server::Server;
use crate::talk::{Load, Pace, Talk};

const MEMBERS: usize = 10;

pub struct Idle {
    /// Open as long as it is kept.
    pub crowd: Crowd,
    /// What has grown since the server was empty: session, member, socket, and a share of the room.
    pub bytes_per_socket: f64,
}

/// Opens so many sockets in an empty server, and has each of them say one thing.
pub fn gather(server: &Server, sockets: usize) -> Result<Idle> {
    let empty = server.resident()?;
    let rooms = sockets.div_ceil(MEMBERS);
    let mut crowd = Crowd::connect(server.address, &server.seats(rooms, MEMBERS)?)?;
    let mut talk = Talk::new(Load { rooms, members: MEMBERS, pace: Pace::PerSecond(1) });
    for room in 0..rooms {
        for _ in 0..MEMBERS {
            talk.say(&mut crowd, room)?;
        }
        crowd.listen(Duration::ZERO, |connection, text, at| talk.on_text(connection, text, at))?;
    }
    talk.finish(&mut crowd)?;
    crowd.settle(Duration::from_millis(200))?;
    let grown = server.resident()?.saturating_sub(empty);
    Ok(Idle { crowd, bytes_per_socket: grown as f64 / (rooms * MEMBERS) as f64 })
}

/// How often the server has woken up in `length`, once it has gone to sleep.
pub fn context_switches(server: &Server, length: Duration) -> Result<u64> {
    let process = server.process.ok_or("the server's process isn't known")?;
    let switches_in = |length| {
        let before = machine::context_switches(process)?;
        thread::sleep(length);
        Result::Ok(machine::context_switches(process)? - before)
    };
    // What has just ended may leave a timer or two.
    for _ in 0..10 {
        if switches_in(Duration::from_secs(1))? == 0 {
            break;
        }
    }
    switches_in(length)
}
