//! Routes for monitoring.
//!
//! Owns `/health` and `/ping`. Must not know individual sessions or rooms, only counts. The
//! invariant: each answer takes constant time, however large the server's state is.

use std::time::Duration;

use super::call::{Call, Caller};
use super::error::Error;
use super::json;
use crate::chat::Command;
use crate::http::{Response, push_decimal};

/// `GET /health`.
pub fn health<'a>(_: &Call<'a>) -> Result<Command<'a>, Error> {
    Ok(Command::Count)
}

/// The answer to [`health`].
///
/// Written without serde, whose numbers took a tenth of the whole request. No value needs an
/// escape.
pub fn counts(caller: &Caller, sessions: usize, rooms: usize) -> Response {
    let start =
        concat!(r#"{"status":"ok","version":""#, env!("CARGO_PKG_VERSION"), r#"","uptime":"#);
    let mut body = Vec::with_capacity(128);
    body.extend_from_slice(start.as_bytes());
    push_seconds(&mut body, caller.uptime);
    for (name, number) in [
        (",\"sessions\":", sessions as u64),
        (",\"rooms\":", rooms as u64),
        (",\"connections\":", caller.connections),
    ] {
        body.extend_from_slice(name.as_bytes());
        push_decimal(&mut body, number);
    }
    #[cfg(feature = "cluster")]
    if let Some(is_up) = caller.is_store_up {
        let state = if is_up { "up" } else { "down" };
        body.extend_from_slice(format!(",\"store\":\"{state}\"").as_bytes());
    }
    body.push(b'}');
    json::response_of_text(200, body)
}

/// Appends a time in seconds (contract §1.17): to the millisecond, with one decimal at least.
fn push_seconds(out: &mut Vec<u8>, time: Duration) {
    push_decimal(out, time.as_secs());
    let point = out.len();
    push_decimal(out, 1000 + u64::from(time.subsec_millis()));
    out[point] = b'.'; // In the place of the 1, which keeps the zeros after it.
    while out.len() > point + 2 && out.ends_with(b"0") {
        out.pop();
    }
}

/// `GET /ping`.
pub fn ping(_: &Call<'_>) -> Result<Response, Error> {
    Ok(json::response_of_text(200, br#"{"status":"ok"}"#.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // contract §1.17
    #[test]
    fn seconds_are_the_shortest_number_that_names_the_millisecond() {
        for millis in [0, 1, 9, 10, 12, 100, 120, 123, 999, 1000, 1001, 61_500, 31_536_000_010] {
            let mut out = Vec::new();
            push_seconds(&mut out, Duration::from_micros(millis * 1000 + 999));
            assert_eq!(out, serde_json::to_vec(&(millis as f64 / 1000.0)).unwrap());
        }
    }
}
