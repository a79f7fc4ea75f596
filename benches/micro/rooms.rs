//! Resuming with `after`, and the listing of all rooms, at two sizes of each.

use std::hint::black_box;

use disposable_chat::chat::MessageId;
use divan::Bencher;

use crate::server::{Client, Server};
use crate::{repeat, wire};

/// The number of missed messages.
const MISSED: usize = 10;

/// Only finds where the missed messages begin in the history.
#[divan::bench(args = [1000, 100_000])]
fn resume_lookup(bencher: Bencher, messages: usize) {
    let mut server = Server::new();
    let (_, room, ids) = with_messages(&mut server, messages);
    let (room, _) = server.room_key(&room);
    let id = MessageId::parse(&ids[ids.len() - 1 - MISSED]);
    bencher.bench_local(|| {
        let mut reading = server.chat().history_after(room, black_box(id), 1);
        let next = server.chat().read_on(&mut reading, usize::MAX).map_or(0, |next| next.len());
        assert!(reading.is_complete() && next == 1);
    });
}

/// A whole request, `GET /rooms/{room_id}/messages?after=`, for ten messages.
#[divan::bench(args = [1000, 100_000])]
fn resume_by_rest(bencher: Bencher, messages: usize) {
    let mut server = Server::new();
    let (session, room, ids) = with_messages(&mut server, messages);
    let path = format!("/rooms/{room}/messages?after={}", ids[ids.len() - 1 - MISSED]);
    let client = server.connect();
    let request = wire::request("GET", &path, Some(&session), "");
    assert_eq!(wire::items(&server.ask(&client, &request).body).0.len(), MISSED);
    bench_request(bencher, &mut server, &client, &request);
}

/// A whole WebSocket: accept, upgrade, a page of ten messages, close, end.
#[divan::bench(args = [1000])]
fn resume_by_socket(bencher: Bencher, messages: usize) {
    let mut server = Server::new();
    let (session, room, ids) = with_messages(&mut server, messages);
    // With another socket of the session, joins and leaves are not announced.
    server.enter(&room, &session, "");
    let after = format!("&after={}", ids[ids.len() - 1 - MISSED]);
    let close = wire::frame(wire::CLOSE, &1000u16.to_be_bytes(), 0x1234_5678);
    bencher.bench_local(|| {
        let client = server.enter(&room, &session, &after);
        assert!(client.received() > MISSED * 100, "the page is missing");
        server.send(&client, &close);
        server.end(client);
    });
}

/// The usual case: the listing has not changed.
#[divan::bench(args = [1000, 100_000])]
fn all_unchanged(bencher: Bencher, rooms: usize) {
    let (mut server, client, _) = with_rooms(rooms);
    let request = wire::request("GET", "/rooms/all", None, "");
    bench_request(bencher, &mut server, &client, &request);
}

/// The listing is made again, after a room has been created and one deleted.
#[divan::bench(args = [1000, 100_000])]
fn all_changed(bencher: Bencher, rooms: usize) {
    bench_changed(bencher, rooms, "/rooms/all");
}

#[divan::bench(args = [1000, 100_000])]
fn all_changed_in_detail(bencher: Bencher, rooms: usize) {
    bench_changed(bencher, rooms, "/rooms/all?detail=true");
}

/// The part of the two benchmarks above that is not the listing.
#[divan::bench(args = [1000, 100_000])]
fn open_and_delete(bencher: Bencher, rooms: usize) {
    let (mut server, client, session) = with_rooms(rooms);
    bencher.bench_local(|| open_and_delete_one(&mut server, &client, &session));
}

fn bench_changed(bencher: Bencher, rooms: usize, path: &str) {
    let (mut server, client, session) = with_rooms(rooms);
    let list = wire::request("GET", path, None, "");
    bencher.bench_local(|| {
        open_and_delete_one(&mut server, &client, &session);
        ask(&mut server, &client, &list)
    });
    assert!(!server.ask(&client, &list).body.is_empty());
}

/// The bytes of ten messages, by REST.
pub fn count_resume(times: usize) {
    let mut server = Server::new();
    let (session, room, ids) = with_messages(&mut server, 1000);
    let path = format!("/rooms/{room}/messages?after={}", ids[ids.len() - 1 - MISSED]);
    let client = server.connect();
    let request = wire::request("GET", &path, Some(&session), "");
    repeat(times, || ask(&mut server, &client, &request));
}

/// As [`resume_by_socket`].
pub fn count_visit(times: usize) {
    let mut server = Server::new();
    let (session, room, _) = with_messages(&mut server, MISSED);
    let close = wire::frame(wire::CLOSE, &1000u16.to_be_bytes(), 0x1234_5678);
    repeat(times, || {
        let client = server.enter(&room, &session, "");
        server.send(&client, &close);
        server.end(client);
    });
}

/// As [`all_changed`].
pub fn count_listing(times: usize) {
    let (mut server, client, session) = with_rooms(1000);
    let list = wire::request("GET", "/rooms/all", None, "");
    repeat(times, || {
        open_and_delete_one(&mut server, &client, &session);
        ask(&mut server, &client, &list)
    });
}

/// The length of the response.
fn ask(server: &mut Server, client: &Client, request: &[u8]) -> usize {
    server.send(client, request);
    server.run();
    let bytes = client.clear();
    assert!(bytes > 0, "no answer");
    bytes
}

fn bench_request(bencher: Bencher, server: &mut Server, client: &Client, request: &[u8]) {
    assert_eq!(server.ask(client, request).status, 200);
    bencher.bench_local(|| ask(server, client, request));
}

fn open_and_delete_one(server: &mut Server, client: &Client, session: &str) {
    let opened = server.ask(client, &wire::request("POST", "/rooms", Some(session), ""));
    let path = format!("/rooms/{}", opened.field("room_id"));
    let deleted = server.ask(client, &wire::request("DELETE", &path, Some(session), ""));
    assert_eq!((opened.status, deleted.status), (201, 200));
}

/// A server with public rooms, a client, and a session that can create another room.
fn with_rooms(rooms: usize) -> (Server, Client, String) {
    let mut server = Server::new();
    server.open_rooms(rooms);
    let client = server.connect();
    let session = server.session();
    (server, client, session)
}

/// Creates a room with messages. Returns its owner, its id and the ids of the messages.
fn with_messages(server: &mut Server, messages: usize) -> (String, String, Vec<String>) {
    let (session, room, client) = server.room();
    let path = format!("/rooms/{room}/messages");
    let text = format!(r#"{{"message":"{}"}}"#, "x".repeat(100));
    let post = wire::request("POST", &path, Some(&session), &text);
    let ids = (0..messages).map(|_| server.ask(&client, &post).field("id")).collect();
    (session, room, ids)
}
