//! The comparison of what each peer has received with what it must receive.
//!
//! Owns the checks of every response, frame and end of stream. Must not know how the server came to
//! send them. The invariant: nothing that a checked peer receives is ignored. A message, a refusal
//! or a close that has no cause fails the test, as does a reply that is due and has not come once
//! the world has settled.

use std::ops::Bound;

use serde_json::{Value, json};

use disposable_chat::server::Purpose;

use super::{Check, HttpPeer, Protocol, Reply, Start, World, WsPeer};
use crate::model::{self, Room};
use crate::pipe::StreamState;
use crate::wire::{self, CLOSE, PING, PONG, Response, TEXT};

// ---- HTTP

impl World {
    pub(super) fn on_http(&mut self, index: usize, http: &mut HttpPeer) {
        loop {
            let to_head = matches!(http.checks.front(), Some(Check::Head(_)));
            let inbox = &mut self.peers[index].inbox;
            let Some(response) = wire::take_response(inbox, to_head) else { break };
            // Without a request, only a timeout has a response (RFC 9110 §15.5.9).
            let check = http.checks.pop_front().unwrap_or(Check::Status(&[408]));
            self.on_response(check, &response);
            if response.head.contains("\r\nConnection: close\r\n") {
                http.checks.clear();
            }
            http.responses.push(response);
        }
        let peer = &self.peers[index];
        if peer.stream == StreamState::Ended && peer.must_be_served {
            assert!(peer.inbox.is_empty(), "peer {index}: half a response");
        }
        if peer.stream != StreamState::Open && peer.must_be_served && !http.may_be_closed {
            assert!(http.checks.is_empty(), "peer {index}: closed without a response");
        }
    }

    fn on_response(&mut self, check: Check, response: &Response) {
        let status = response.status;
        if self.is_shut_down && status == 503 {
            return;
        }
        if status >= 400 && !matches!(check, Check::Head(_)) {
            let json = json_of(response);
            assert!(json["code"].is_string() && json["detail"].is_string(), "{response:?}");
        }
        let expect = |expected: &[u16]| assert!(expected.contains(&status), "{response:?}");
        match check {
            Check::ByCaller => {}
            Check::Status(statuses) => expect(statuses),
            Check::Head(expected) => expect(&[expected]),
            Check::Session(user) => {
                expect(&[201]);
                let session = json_of(response)["session_id"].as_str().map(str::to_owned);
                self.users[user].session = session;
            }
            Check::Room => {
                expect(&[201]);
                let json = json_of(response);
                let id = json["room_id"].as_str().expect("a room has an id");
                self.rooms.push(Room::new(id.to_owned(), self.history_messages_max));
            }
            Check::Posted { user, room, text } => {
                expect(&[200, 201, 401, 403, 404, 409, 429]);
                self.on_posted(user, room, &text, response);
            }
            Check::Messages(room) => {
                let room = &self.rooms[room];
                expect(if room.watched { &[200, 401] } else { &[200, 401, 404] });
                if status == 200 {
                    check_history(room, &response.body);
                }
            }
            Check::UserCount(count) => {
                expect(&[200]);
                assert_eq!(json_of(response)["user_count"], count, "users present");
            }
            Check::Closes { .. } if status == 401 => {} // The session has ended meanwhile.
            Check::Closes { user, room, code, at_least } => {
                expect(&[200]);
                for socket in self.sockets_of(user, room) {
                    let Some(ws) = self.peers[socket].ws_mut() else { continue };
                    ws.closes_possible.insert(code);
                    ws.must_close |= at_least.contains(&socket);
                }
            }
        }
    }

    fn on_posted(&mut self, user: usize, room: usize, text: &str, response: &Response) {
        let user = &self.users[user];
        let room = &mut self.rooms[room];
        match response.status {
            404 => assert!(!room.watched, "a watched room exists"),
            409 => assert!(user.has_namesake, "no other user has this name"),
            429 => {
                assert_eq!(json_of(response)["code"], "rate_limited");
                assert!(self.has_message_rate, "there is no message rate");
            }
            200 | 201 => {
                let id = room.record(&response.body);
                let message = &room.log[&id];
                assert!(message.nonce.is_some() && message.user == user.name);
                assert!(response.status == 200 || message.text == text, "another text is posted");
            }
            _ => {}
        }
    }
}

fn json_of(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_default()
}

/// A history has the messages of the log in the same bytes. From its first message to its last it
/// has all that any peer has received by then.
fn check_history(room: &Room, body: &[u8]) {
    let (items, _) = wire::items(body);
    let ids: Vec<_> = items.iter().map(|item| model::id_of(item).expect("an id")).collect();
    assert!(ids.is_sorted_by(|one, next| one < next), "a history is out of order");
    for (id, item) in ids.iter().zip(&items) {
        let known = room.log.get(*id);
        assert!(known.is_none_or(|known| known.json == *item), "a history has {id} in other bytes");
    }
    if let (true, Some(first), Some(last)) = (room.watched, ids.first(), ids.last()) {
        let bounds = (Bound::Included(*first), Bound::Included(*last));
        let mut known = room.log.range::<str, _>(bounds);
        assert!(known.all(|(id, _)| ids.binary_search(&&id[..]).is_ok()), "a history has a gap");
    }
}

// ---- WebSocket

impl World {
    pub(super) fn on_ws(&mut self, index: usize, ws: &mut WsPeer) {
        if !ws.upgraded {
            let Some(response) = wire::take_response(&mut self.peers[index].inbox, false) else {
                let peer = &self.peers[index];
                let is_closed = peer.stream != StreamState::Open;
                let may_close = self.is_shut_down || !peer.must_be_served;
                assert!(!is_closed || may_close, "peer {index}: closed without a response");
                return;
            };
            ws.upgraded = response.status == 101;
            if !ws.upgraded {
                let is_expected = self.is_shut_down && response.status == 503;
                let is_checked = self.peers[index].must_be_served;
                assert!(is_expected || !is_checked, "peer {index}: {response:?}");
                ws.closed = Some((1001, String::new()));
                return;
            }
            let accept = "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
            assert!(response.head.contains(accept), "{}", response.head);
        }
        while let Some((first, payload)) = wire::take_frame(&mut self.peers[index].inbox) {
            assert_eq!(ws.closed, None, "peer {index}: a frame after the close");
            match first {
                TEXT => self.on_text(index, ws, &payload),
                PING => {
                    ws.pings_received += 1;
                    if ws.close_due.is_none() {
                        self.send_frame(index, PONG, &payload);
                    }
                }
                PONG => {
                    let is_due = ws.pings.pop_front() == Some(payload);
                    let is_checked = self.peers[index].must_be_served;
                    assert!(is_due || !is_checked, "peer {index}: a pong without a ping");
                }
                _ => self.on_close(index, ws, &payload),
            }
        }
        let peer = &self.peers[index];
        let ended = peer.stream != StreamState::Open && peer.must_be_served && ws.closed.is_none();
        assert!(!ended, "peer {index}: the stream ended without a close");
    }

    /// The events of a stream are checked like those of a WebSocket.
    pub(super) fn on_stream(&mut self, index: usize, ws: &mut WsPeer) {
        let format = ws.stream.expect("a stream");
        if !ws.upgraded {
            match wire::take_stream_head(&mut self.peers[index].inbox) {
                Some(head) => {
                    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                    ws.upgraded = true;
                }
                None => {
                    let response = wire::take_response(&mut self.peers[index].inbox, false);
                    let Some(response) = response else { return };
                    let is_expected = ws.closes_possible.contains(&response.status)
                        || self.is_shut_down && response.status == 503
                        || !self.peers[index].must_be_served;
                    assert!(is_expected, "peer {index}: {response:?}");
                    return ws.closed = Some((response.status, String::new()));
                }
            }
        }
        while let Some(chunk) = wire::take_chunk(&mut self.peers[index].inbox) {
            if chunk.is_empty() {
                assert!(ws.closed.is_some(), "peer {index}: the response ends without a close");
                break;
            }
            for (event, id) in wire::events_in(&chunk, format) {
                assert_eq!(ws.closed, None, "peer {index}: {event} after the close");
                let is_message = event.starts_with("{\"id\"");
                if format == wire::Format::EventStream && is_message {
                    assert_eq!(id.as_deref(), event.get(7..43), "the id of a message");
                }
                let json: Value = serde_json::from_str(&event).expect("an event is JSON");
                match json["type"].as_str() {
                    Some("ping") => ws.pings_received += 1,
                    Some("welcome") => {
                        assert!(ws.start == Start::Live && ws.seen.is_empty(), "a late welcome");
                        assert_eq!(json["room_id"], *self.rooms[ws.room].id);
                        ws.you = json["you"].as_str().map(str::to_owned);
                    }
                    Some("close") => {
                        let code = json["code"].as_u64().expect("a code") as u16;
                        let is_final = matches!(code, 1000 | 4401 | 4404 | 4410 | 4411);
                        let ends = id.as_deref() == Some("end");
                        assert_eq!(
                            ends,
                            is_final && format == wire::Format::EventStream,
                            "{event}"
                        );
                        let is_possible = ws.closes_possible.contains(&code);
                        assert!(
                            is_possible || !self.peers[index].must_be_served,
                            "{index}: {event}"
                        );
                        let reason = json["reason"].as_str().expect("a reason").to_owned();
                        ws.closed = Some((code, reason));
                    }
                    _ => {
                        self.on_text(index, ws, event.as_bytes());
                        let is_page = event.starts_with("{\"type\":\"history\"");
                        if is_page
                            && format == wire::Format::EventStream
                            && json["messages"] != json!([])
                        {
                            assert_eq!(id.as_ref(), ws.seen.last(), "the id of a page");
                        }
                    }
                }
            }
        }
        let peer = &self.peers[index];
        let ended = peer.stream != StreamState::Open && peer.must_be_served && ws.closed.is_none();
        assert!(!ended, "peer {index}: the stream ended without a close");
    }

    fn on_text(&mut self, index: usize, ws: &mut WsPeer, json: &[u8]) {
        if json.starts_with(b"{\"id\"") {
            return self.on_message(index, ws, json);
        }
        if json.starts_with(b"{\"type\":\"history\"") {
            return self.on_page(index, ws, json);
        }
        let value: Value = serde_json::from_slice(json).expect("an event is JSON");
        let is_checked = self.peers[index].must_be_served;
        match value["type"].as_str().expect("an event has a type") {
            "refused" => {
                let code = value["code"].as_str().expect("a refusal has a code");
                let is_limited = self.has_message_rate && code == "rate_limited";
                let nonce = value["nonce"].as_str();
                let is_due = ws.take_reply(|reply| match reply {
                    Reply::Refused(expected) => code == *expected,
                    Reply::Echo(_) => is_limited && nonce.is_none(),
                    Reply::EchoOf { nonce: known, .. } => is_limited && nonce == Some(known),
                    Reply::Pong => false,
                });
                let due = &ws.replies_due;
                assert!(is_due || !is_checked, "peer {index}: refused {code}, but due is {due:?}");
            }
            "pong" => {
                let is_due = ws.take_reply(|reply| *reply == Reply::Pong);
                assert!(is_due || !is_checked, "peer {index}: a pong without a ping event");
            }
            "typing" => {
                assert_eq!(value["room_id"], *self.rooms[ws.room].id, "typing of another room");
                assert!(ws.is_live(), "peer {index}: typing before its history");
            }
            "room_changed" => {
                let id = &self.rooms[ws.room].id;
                assert_eq!(
                    (&value["room_id"], &value["room"]["room_id"]),
                    (&json!(id), &json!(id))
                );
                assert!(ws.is_live(), "peer {index}: a change before its history");
                ws.room_shown = value["room"].clone();
                ws.changes += 1;
            }
            kind => panic!("peer {index}: the server has no event of type {kind}"),
        }
    }

    fn on_message(&mut self, index: usize, ws: &mut WsPeer, json: &[u8]) {
        let room = &mut self.rooms[ws.room];
        let id = room.record(json);
        let message = &room.log[&id];
        let user = &self.users[ws.user];
        let after = ws.start.resume_point().filter(|id| room.log.contains_key(*id));
        let last = ws.seen.last().map(String::as_str).max(after);
        // Without a history, the first message is newer than all that were known at the request.
        let has_history = !ws.is_live() || ws.pages.messages > 0;
        let newest = ws.newest_at_request.as_deref().filter(|_| !has_history);
        if last.max(newest) >= Some(id.as_str()) {
            // An old message may only answer a chat of this peer that repeats its nonce.
            let nonce = message.nonce.as_ref().filter(|_| message.user == user.name);
            let sent = ws.nonces_sent.iter().position(|sent| Some(sent) == nonce);
            let sent = sent.unwrap_or_else(|| panic!("peer {index}: {id} is out of order"));
            ws.nonces_sent.swap_remove(sent);
            let text = &message.text;
            ws.take_reply(
                |reply| matches!(reply, Reply::EchoOf { text: sent, .. } if sent == text),
            );
            return;
        }
        assert!(ws.is_live(), "peer {index}: {:?} before its history", message.text);
        if ws.seen.len() == ws.pages.messages {
            let is_own_join = message.kind == "user_joined" && message.user == user.name;
            let text = &message.text;
            assert!(is_own_join || !ws.is_only_one, "peer {index}: {text:?} is its first message");
        }
        take_echo(index, ws, room, &id);
        ws.seen.push(id);
    }

    fn on_page(&mut self, index: usize, ws: &mut WsPeer, json: &[u8]) {
        assert!(!ws.is_live(), "peer {index}: a page that was not requested");
        assert!(json.len() < 64 * 1024, "peer {index}: a page of {} bytes", json.len());
        let room = &mut self.rooms[ws.room];
        let head = format!("{{\"type\":\"history\",\"room_id\":\"{}\",", room.id);
        assert!(json.starts_with(head.as_bytes()), "a history of another room");
        let (items, rest) = wire::items(json);
        // A store may have lost it.
        let after = ws.start.resume_point().filter(|id| room.log.contains_key(*id));
        let after = after.map(str::to_owned);
        for item in items {
            let id = room.record(item);
            let last = ws.seen.last().max(after.as_ref()).map(String::as_str);
            assert!(last < Some(id.as_str()), "peer {index}: a page is out of order");
            take_echo(index, ws, room, &id);
            ws.seen.push(id);
        }
        ws.pages.count += 1;
        ws.pages.messages = ws.seen.len();
        let rest = [b"{", rest.strip_prefix(b",").expect("more fields follow")].concat();
        let rest: Value = serde_json::from_slice(&rest).expect("a page is JSON");
        if rest["more"] == true {
            assert!(rest.get("complete").is_none(), "only the last page has `complete`");
            return;
        }
        assert_eq!(rest["more"], false);
        ws.pages.complete = rest["complete"].as_bool();
        let complete = ws.pages.complete.expect("the last page has `complete`");
        let can_be_complete =
            matches!(ws.start, Start::Last(_)) || ws.start.resume_point().is_some();
        assert!(!complete || can_be_complete, "peer {index}: a resume from no message is complete");
        if let Start::Last(count) = ws.start {
            let has_more = ws.pages.messages > count;
            assert!(complete && !has_more, "peer {index}: more messages than requested");
        }
        ws.room_shown = rest["room"].clone();
        ws.you = rest["you"].as_str().map(str::to_owned);
        let users = rest["users"].as_array().expect("a list of users");
        let names = users.iter().map(|user| user["user"].as_str().expect("a name").to_owned());
        ws.pages.users = names.collect();
        let own = users.iter().find(|user| user["user_id"] == rest["you"]);
        let own = own.unwrap_or_else(|| panic!("peer {index} is not among {users:?}"));
        assert_eq!(own["user"], *self.users[ws.user].name);
    }

    fn on_close(&mut self, index: usize, ws: &mut WsPeer, payload: &[u8]) {
        let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
        let reason = String::from_utf8(payload.get(2..).unwrap_or_default().to_vec());
        let reason = reason.expect("a reason is UTF-8");
        if self.peers[index].must_be_served && !ws.closes_possible.contains(&code) {
            assert_eq!(Some(code), ws.close_due, "peer {index}: {reason}");
            if ws.closes_possible.is_empty() && ws.start == Start::Live {
                let due = &ws.replies_due;
                assert!(due.is_empty(), "peer {index}: closed, but due is {due:?}");
            }
        }
        ws.closed = Some((code, reason));
        if ws.close_due.is_none() {
            self.send_frame(index, CLOSE, &payload[..payload.len().min(2)]);
        }
    }
}

/// Removes the reply due that is this message, if there is one. For a chat whose text shows that
/// this peer has sent it there must be one.
fn take_echo(index: usize, ws: &mut WsPeer, room: &Room, id: &str) {
    let message = &room.log[id];
    if message.kind != "chat" {
        return;
    }
    let is_due = ws.take_reply(|reply| match reply {
        Reply::Echo(text) | Reply::EchoOf { text, .. } => *text == message.text,
        Reply::Refused(_) | Reply::Pong => false,
    });
    let is_own = message.text.starts_with(&format!("c{index}n")) && message.nonce.is_none();
    let (text, due) = (&message.text, &ws.replies_due);
    assert!(is_due || !is_own, "peer {index} receives {text:?}, but due is {due:?}");
}

// ---- When nothing moves any more

impl World {
    pub(super) fn check_served(&self, index: usize) {
        let peer = &self.peers[index];
        if !peer.is_accepted() {
            let is_full = !self.core.can_accept(Purpose::Chat);
            return assert!(is_full, "peer {index} is not accepted");
        }
        // A peer with a namesake in the room waits until it is clear that the namesake is gone.
        let mut may_wait = false;
        match &peer.protocol {
            Protocol::Ws(ws) => {
                let has_namesake = self.users[ws.user].has_namesake;
                may_wait = has_namesake && ws.seen.is_empty() && ws.closed.is_none();
                self.check_ws_served(index, ws, may_wait);
            }
            Protocol::Http(http) if peer.must_be_served && peer.reading && !http.may_be_closed => {
                let count = http.checks.len();
                assert_eq!(count, 0, "peer {index}: responses are due");
            }
            _ => {}
        }
        if peer.reading && !may_wait && !peer.is_dropped() {
            assert_eq!(peer.end.pipe().unread_bytes(), 0, "peer {index}: input is left unread");
            assert!(!peer.is_shut_down, "peer {index}: the end of its stream is left unread");
        }
    }

    fn check_ws_served(&self, index: usize, ws: &WsPeer, may_wait: bool) {
        let peer = &self.peers[index];
        let is_healthy = peer.is_healthy();
        if is_healthy {
            let is_withheld = may_wait && ws.stream.is_some();
            assert!(ws.upgraded || is_withheld, "peer {index}: the upgrade is not answered");
            assert!(!ws.must_close, "peer {index} is not closed");
        }
        if is_healthy && !may_wait {
            let is_in = !ws.is_only_one || !ws.seen.is_empty();
            assert!(is_in, "peer {index} is not admitted");
            assert!(ws.is_live(), "peer {index} is still catching up");
            assert!(ws.replies_due.is_empty(), "peer {index}: due is {:?}", ws.replies_due);
            assert!(ws.pings.is_empty(), "peer {index}: pongs are due");
        }
        if peer.must_be_served && peer.reading && ws.close_due.is_some() {
            assert!(may_wait || ws.closed.is_some(), "peer {index}: a close is due");
        }
        let is_waiting = may_wait && ws.pages.complete.is_none();
        let must_have_all = is_healthy && !is_waiting;
        let room = &self.rooms[ws.room];
        room.check_reader(&format!("peer {index}"), &ws.seen, must_have_all);
        check_start(index, room, ws, must_have_all);
    }
}

/// Checks that a peer that resumes has received what follows its last message, or that the server
/// has reported a gap.
fn check_start(index: usize, room: &Room, ws: &WsPeer, must_have_all: bool) {
    let Some(after) = ws.start.resume_point() else { return };
    let first = ws.seen.first();
    if first.is_none() && must_have_all && ws.pages.complete != Some(false) {
        assert_eq!(room.after(after).next(), None, "peer {index} lacks what follows {after}");
    }
    let Some(complete) = ws.pages.complete.filter(|_| room.watched) else { return };
    let until = ws.pages.messages.checked_sub(1).map_or(after, |last| &ws.seen[last]);
    assert_eq!(complete, room.was_kept(after, until), "peer {index}: `complete` is wrong");
    if complete {
        let next = room.after(after).next();
        assert!(first.is_none() || first == next, "peer {index}: a gap that is not reported");
    } else {
        let kept = room.history_messages_max.min(room.log.range(..=until.to_owned()).count());
        assert_eq!(ws.pages.messages, kept, "peer {index} has not received the whole history");
    }
}
