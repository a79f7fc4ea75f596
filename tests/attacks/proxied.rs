//! Requests of members and attackers, each from an address behind a trusted proxy.

use serde_json::json;

use crate::client::{Answer, Http, Request, Ws, post, upgrade};
use crate::server::Entrance;

/// An attacker's address.
pub fn address(number: usize) -> String {
    format!("10.{}.{}.{}", number >> 16 & 0xFF, number >> 8 & 0xFF, number & 0xFF)
}

/// Adds the field by which a trusted proxy passes the address on.
pub fn from(request: Request, address: &str) -> Request {
    request.field("X-Forwarded-For", address)
}

pub fn open_session(name: &str, address: &str) -> Request {
    from(post("/sessions").json(&json!({"username": name})), address)
}

/// Opens a session and returns its id.
pub fn session(server: &Entrance, name: &str, address: &str) -> String {
    server.ask(open_session(name, address)).expect(201).string("session_id")
}

/// Creates a room and returns its id.
pub fn room(server: &Entrance, session: &str, address: &str) -> String {
    server.ask(from(post("/rooms").session(session), address)).expect(201).string("room_id")
}

pub fn enter(room: &str, session: &str, address: &str) -> Request {
    from(upgrade(&format!("/ws/{room}")).session(session), address)
}

/// Opens a WebSocket. The caller reads all events, including the first.
pub fn socket(server: &Entrance, room: &str, session: &str, address: &str) -> Ws {
    server.upgrade(enter(room, session, address))
}

/// Sends all requests over one connection, fifty at a time, and returns the responses.
pub fn ask_all(server: &Entrance, requests: &[Request]) -> Vec<Answer> {
    let mut http: Http = server.http();
    requests.chunks(50).flat_map(|some| http.pipeline(some)).collect()
}
