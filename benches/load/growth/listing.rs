//! `/rooms/all` with more and more rooms. At most a thousand are listed, so from there on the cost
//! must not grow.
//!
//! The first request after a change makes the listing; later requests get the same bytes.

use std::time::Instant;

use super::{others, thousands};
use crate::Result;
use crate::http::{self, Http};
use crate::table::{median, short};
use crate::trials::Lab;

pub fn print(lab: &Lab, sizes: &[usize]) -> Result<()> {
    println!(
        "| rooms | bytes | first request, µs | next, µs | detail: bytes | first, µs | next, µs |"
    );
    println!("|---|---|---|---|---|---|---|");
    for rooms in sizes {
        let server = lab.release(&[])?;
        let mut http = Http::connect(server.address)?;
        others::add_rooms(&server, &mut http, *rooms)?;
        let session = http::field(&http.ask(&http::open_session("ana"))?, "session_id")?;
        print!("| {} |", thousands(*rooms));
        for path in ["/rooms/all", "/rooms/all?detail=true"] {
            let Listing { bytes, made, again } = listing(&mut http, &session, path)?;
            print!(" {} | {} | {} |", thousands(bytes), short(made), short(again));
        }
        println!();
    }
    Ok(())
}

struct Listing {
    bytes: usize,
    made: f64,
    again: f64,
}

/// The median times of the first request after a change, and of the next one.
fn listing(http: &mut Http, session: &str, path: &str) -> Result<Listing> {
    let question = http::get(path, None);
    let (mut bytes, mut made, mut again) = (0, Vec::new(), Vec::new());
    for _ in 0..20 {
        let room = http.ask(&http::post("/rooms", Some(session), ""))?;
        let gone = http::delete(&format!("/rooms/{}", http::field(&room, "room_id")?), session);
        http.ask(&gone)?;
        for took in [&mut made, &mut again] {
            let from = Instant::now();
            bytes = http.ask(&question)?.len();
            took.push(from.elapsed().as_secs_f64() * 1e6);
        }
    }
    let median = |took: &[f64]| median(took).unwrap_or(f64::NAN);
    Ok(Listing { bytes, made: median(&made), again: median(&again) })
}
