//! The cost of a delivery in one room with more and more members.

use super::thousands;
use crate::Result;
use crate::server::Server;
use crate::table::short;
use crate::traffic::{self, Load, Pace};
use crate::trials::Lab;

/// The same window for all sizes, so that the server coalesces equally in each.
const WINDOW: usize = 16;

pub fn print(lab: &Lab, sizes: &[usize]) -> Result<()> {
    println!("| members of a room | CPU per delivery, µs | yardstick, µs | ratio |");
    println!("|---|---|---|---|");
    for members in sizes.iter().copied().filter(|members| *members >= 10) {
        let load = Load { rooms: 1, members, pace: Pace::Window(WINDOW) };
        let cpu = |server: Server| -> Result<f64> {
            let delivered = traffic::measure(&server, load, lab.span)?;
            delivered.cpu_micros_per_delivery().ok_or_else(|| "the process is unknown".into())
        };
        let (server, yardstick) = (cpu(lab.release(&[])?)?, cpu(lab.yardstick(true)?)?);
        let ratio = server / yardstick;
        let members = thousands(members);
        println!("| {members} | {} | {} | {ratio:.2} |", short(server), short(yardstick));
    }
    Ok(())
}
