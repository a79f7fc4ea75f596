//! Routes for monitoring.
//!
//! Owns `/health` and `/ping`. Must not know individual sessions or rooms, only counts. The
//! invariant: each answer takes constant time, however large the server's state is.

use serde::Serialize;

use super::call::{Call, Outcome};
use super::json;

/// `GET /health`.
pub fn health(call: &mut Call<'_>) -> Outcome {
    #[derive(Serialize)]
    struct Health {
        status: &'static str,
        version: &'static str,
        /// In seconds (contract §1.17).
        uptime: f64,
        sessions: usize,
        rooms: usize,
        connections: u64,
    }
    Ok(json::response(
        200,
        &Health {
            status: "ok",
            version: env!("CARGO_PKG_VERSION"),
            uptime: call.caller.uptime.as_millis() as f64 / 1000.0,
            sessions: call.chat.session_count(),
            rooms: call.chat.room_count(),
            connections: call.caller.connections,
        },
    ))
}

/// `GET /ping`.
pub fn ping(_: &mut Call<'_>) -> Outcome {
    #[derive(Serialize)]
    struct Ping {
        status: &'static str,
    }
    Ok(json::response(200, &Ping { status: "ok" }))
}
