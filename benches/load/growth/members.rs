//! One room, ever larger: what one delivery costs in it.

use super::thousands;
use crate::Result;
use crate::server::Server;
use crate::table::short;
use crate::talk::{self, Load, Pace};
use crate::trials::Lab;

/// The windows of 16 messages are the same, so the server writes as much at once in each.
const WINDOW: usize = 16;

pub fn print(lab: &Lab, sizes: &[usize]) -> Result<()> {
    println!("| members of a room | CPU a delivery, µs | yardstick, µs | ratio |");
    println!("|---|---|---|---|");
    for members in sizes.iter().copied().filter(|members| *members >= 10) {
        let load = Load { rooms: 1, members, pace: Pace::Window(WINDOW) };
        let cpu = |server: Server| -> Result<f64> {
            let heard = talk::measure(&server, load, lab.span)?;
            heard.cpu_micros_per_delivery().ok_or_else(|| "its process isn't known".into())
        };
        let (server, yardstick) = (cpu(lab.release(&[])?)?, cpu(lab.yardstick(true)?)?);
        let ratio = server / yardstick;
        let members = thousands(members);
        println!("| {members} | {} | {} | {ratio:.2} |", short(server), short(yardstick));
    }
    Ok(())
}
