//! Reconnecting with `after`, to longer and longer histories: the time from connecting to the last
//! page.
//!
//! Finding the place must not take longer in a longer history; only sending more messages does.

use std::time::Instant;

use super::thousands;
use crate::Result;
use crate::clients::{Clients, PATIENCE};
use crate::http::{self, Http};
use crate::server::Server;
use crate::table::{median, short};
use crate::trials::Lab;

const LAST_PAGE: &[u8] = br#""more":false,"complete":true"#;

pub fn print(lab: &Lab, sizes: &[usize]) -> Result<()> {
    println!("| messages kept | missed one, µs | missed all but one, µs | a message, µs |");
    println!("|---|---|---|---|");
    for kept in sizes.iter().copied().filter(|kept| *kept >= 10) {
        // One more for the announcement of the member.
        let history = (kept + 1).to_string();
        let server = lab.release(&["--history", &history])?;
        let room = Room::fill(&server, kept)?;
        let (first, last_but_one) = (room.messages.first(), room.messages.iter().nth_back(1));
        let one = room.micros_to_return(last_but_one.ok_or("no message")?)?;
        let all = room.micros_to_return(first.ok_or("no message")?)?;
        let each = all / (kept - 1) as f64;
        println!("| {} | {} | {} | {} |", thousands(kept), short(one), short(all), short(each));
    }
    Ok(())
}

struct Room<'a> {
    server: &'a Server,
    path: String,
    /// The ids, in order.
    messages: Vec<String>,
    /// A first socket of the same session. While it is open, others are not announced.
    _present: Clients,
}

impl Room<'_> {
    fn fill(server: &Server, messages: usize) -> Result<Room<'_>> {
        let mut http = Http::connect(server.address)?;
        let session = http::field(&http.ask(&http::open_session("ana"))?, "session_id")?;
        let room = http.ask(&http::post("/rooms", Some(&session), ""))?;
        let room = http::field(&room, "room_id")?;
        let path = format!("/ws/{room}?session_id={session}");
        let body = format!(r#"{{"message":"{:.<100}"}}"#, "");
        let post = http::post(&format!("/rooms/{room}/messages"), Some(&session), &body);
        let mut ids = Vec::new();
        http.ask_all(std::iter::repeat_n(post, messages), |body| {
            ids.push(http::field(&body, "id")?);
            Ok(())
        })?;
        let present = Clients::connect(server.address, std::slice::from_ref(&path))?;
        Ok(Room { server, path, messages: ids, _present: present })
    }

    /// The median of twenty.
    fn micros_to_return(&self, after: &str) -> Result<f64> {
        let path = format!("{}&after={after}", self.path);
        let mut took = Vec::new();
        for _ in 0..20 {
            let mut clients = Clients::new()?;
            let from = Instant::now();
            clients.open(self.server.address, &path)?;
            let mut is_back = false;
            while !is_back {
                let some = clients.listen(PATIENCE, |_, text, _| {
                    is_back |= text.windows(LAST_PAGE.len()).any(|part| part == LAST_PAGE);
                    Ok(())
                })?;
                if !some {
                    return Err("the history has no last page".into());
                }
            }
            took.push(from.elapsed().as_secs_f64() * 1e6);
        }
        median(&took).ok_or_else(|| "nothing was measured".into())
    }
}
