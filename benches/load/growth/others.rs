//! A hundred members of one room at a fixed rate, beside more and more other rooms, sessions or
//! sockets: the memory of those, and a check that they do not slow the hundred down.
//!
//! Owns the reading of `/metrics`, for the duration of ticks: every connection waits for those.

use super::thousands;
use crate::Result;
use crate::clients::Clients;
use crate::http::{self, Http};
use crate::idle;
use crate::server::Server;
use crate::table::short;
use crate::traffic::{Load, Pace, Traffic};
use crate::trials::Lab;

/// What the table has more and more of.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Empty public rooms.
    Rooms,
    /// Sessions without a room. Each has an armed timer.
    Sessions,
    /// Sockets that have sent one message, in rooms of ten.
    Sockets,
}

/// The load of the hundred members.
const LOAD: Load = Load { rooms: 1, members: 100, pace: Pace::PerSecond(200) };

/// The limit on rooms per session.
const ROOMS_PER_SESSION: usize = 200;

pub fn print(lab: &Lab, kind: Kind, sizes: &[usize]) -> Result<()> {
    let name = match kind {
        Kind::Rooms => "other rooms",
        Kind::Sessions => "other sessions",
        Kind::Sockets => "other sockets, in rooms of ten",
    };
    println!(
        "| {name} | resident, MiB | bytes each | CPU per delivery, µs | mean tick, µs | p99 |"
    );
    println!("|---|---|---|---|---|---|");
    for size in sizes {
        let server = lab.release(&["--metrics-listen", "127.0.0.1:0", "--ping-interval", "1h"])?;
        let empty = server.resident()?;
        let _crowd = add(&server, kind, *size)?;
        let resident = server.resident()?;
        let each = resident.saturating_sub(empty) as f64 / *size as f64;
        let (mut clients, mut traffic) = Traffic::connect(&server, LOAD)?;
        let before = Ticks::of(&server)?;
        let delivered = traffic.run(&mut clients, lab.span, server.process)?;
        let ticks = Ticks::of(&server)?.since(&before);
        let cpu = delivered.cpu_micros_per_delivery().unwrap_or(f64::NAN);
        println!(
            "| {} | {:.1} | {} | {} | {} | {} |",
            thousands(*size),
            resident as f64 / f64::from(1 << 20),
            // For a few, the first page of each allocation would dominate.
            if *size >= 1000 { short(each) } else { String::new() },
            short(cpu),
            short(ticks.mean_micros()),
            ticks.longest_of(0.99),
        );
    }
    Ok(())
}

pub fn add(server: &Server, kind: Kind, count: usize) -> Result<Option<Clients>> {
    let mut http = Http::connect(server.address)?;
    match kind {
        Kind::Rooms => add_rooms(server, &mut http, count)?,
        Kind::Sessions => drop(server.sessions(&mut http, count)?),
        Kind::Sockets => return Ok(Some(idle::connect(server, count)?.clients)),
    }
    Ok(None)
}

/// Creates empty rooms.
pub fn add_rooms(server: &Server, http: &mut Http, count: usize) -> Result<()> {
    let owners = server.sessions(http, count.div_ceil(ROOMS_PER_SESSION))?;
    let owners = owners.iter().flat_map(|owner| std::iter::repeat_n(owner, ROOMS_PER_SESSION));
    http.ask_all(owners.take(count).map(|owner| http::post("/rooms", Some(owner), "")), |_| Ok(()))
}

/// The histogram of tick durations in `/metrics`.
struct Ticks {
    seconds: f64,
    count: f64,
    /// The number of ticks up to each bound.
    up_to: Vec<(String, f64)>,
}

impl Ticks {
    fn of(server: &Server) -> Result<Ticks> {
        let address = server.metrics.ok_or("no listener for metrics")?;
        let text = Http::connect(address)?.ask(&http::get("/metrics", None))?;
        let mut ticks = Ticks { seconds: 0.0, count: 0.0, up_to: Vec::new() };
        for line in text.lines() {
            let Some(line) = line.strip_prefix("chat_tick_duration_seconds_") else { continue };
            let (name, value) = line.split_once(' ').ok_or("a line without a value")?;
            let value: f64 = value.parse()?;
            match name {
                "sum" => ticks.seconds = value,
                "count" => ticks.count = value,
                bucket => {
                    let bound = bucket.split('"').nth(1).ok_or("a bucket without a bound")?;
                    ticks.up_to.push((bound.to_owned(), value));
                }
            }
        }
        Ok(ticks)
    }

    fn since(self, before: &Ticks) -> Ticks {
        let up_to = self.up_to.into_iter().zip(&before.up_to);
        Ticks {
            seconds: self.seconds - before.seconds,
            count: self.count - before.count,
            up_to: up_to.map(|((bound, now), (_, then))| (bound, now - then)).collect(),
        }
    }

    fn mean_micros(&self) -> f64 {
        self.seconds * 1e6 / self.count
    }

    /// The smallest bound that at least this share of the ticks did not exceed.
    fn longest_of(&self, share: f64) -> String {
        let bound = self.up_to.iter().find(|(_, count)| *count >= self.count * share);
        let seconds = bound.and_then(|(bound, _)| bound.parse::<f64>().ok());
        seconds.map_or("over 1 s".into(), |seconds| format!("≤ {:.0}", seconds * 1e6))
    }
}
