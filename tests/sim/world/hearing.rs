//! What peers hear: each holds every answer, frame and end against what it is owed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Ask, Http, Owed, Start, World, Ws};
use crate::model::Room;
use crate::pipe::Seen;
use crate::wire::{self, CLOSE, PING, PONG, Response, TEXT};

impl World {
    pub(super) fn hear_http(&mut self, index: usize, http: &mut Http) {
        loop {
            let to_head = matches!(http.asks.front(), Some(Ask::Head(_)));
            let inbox = &mut self.clients[index].inbox;
            let Some(response) = wire::take_response(inbox, to_head) else { break };
            let ask = http.asks.pop_front();
            self.on_answer(ask.unwrap_or(Ask::Status(&[408])), &response);
            if response.head.contains("\r\nConnection: close\r\n") {
                http.asks.clear();
            }
            http.answers.push(response);
        }
        let client = &self.clients[index];
        if client.line == Seen::End && client.honest {
            assert!(client.inbox.is_empty(), "client {index}: more than was announced");
        }
        if client.line != Seen::Open && client.honest && !http.excused {
            assert!(http.asks.is_empty(), "client {index}: ended without an answer");
        }
    }

    fn on_answer(&mut self, ask: Ask, response: &Response) {
        let status = response.status;
        if self.is_shut_down && status == 503 {
            return;
        }
        let json: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        if status >= 400 && !matches!(ask, Ask::Head(_)) {
            assert!(json["code"].is_string() && json["detail"].is_string(), "{response:?}");
        }
        let expect = |expected: &[u16]| assert!(expected.contains(&status), "{response:?}");
        match ask {
            Ask::Any => {}
            Ask::Status(statuses) => expect(statuses),
            Ask::Head(expected) => expect(&[expected]),
            Ask::Session(person) => {
                expect(&[201]);
                self.people[person].session = json["session_id"].as_str().map(str::to_owned);
            }
            Ask::Room => {
                expect(&[201]);
                let id = json["room_id"].as_str().expect("a room has an id");
                self.rooms.push(Room::new(id.to_owned(), self.kept_max));
            }
            Ask::Posted { person, room, text } => {
                expect(&[200, 201, 401, 403, 404, 409, 429]);
                self.on_posted(person, room, &text, response, &json);
            }
            Ask::Messages(room) => {
                let room = &mut self.rooms[room];
                expect(if room.watched { &[200, 401] } else { &[200, 401, 404] });
                let text = String::from_utf8(response.body.clone()).expect("UTF-8");
                let items = json["messages"].as_array().map_or(&[][..], |items| items);
                let mut last = String::new();
                for item in items {
                    let id = item["id"].as_str().expect("an id");
                    assert!(*last < *id, "a history out of order");
                    last = id.to_owned();
                    if let Some(known) = room.log.get(id) {
                        let json = std::str::from_utf8(&known.json).expect("UTF-8");
                        assert!(text.contains(json), "a history tells {id} differently");
                    }
                }
                if let (true, Some(first)) = (room.watched, items.first()) {
                    // From the first on, all that anybody had seen by then, and more perhaps.
                    let ids = items.iter().map(|item| item["id"].as_str().expect("an id"));
                    let first = first["id"].as_str().expect("an id");
                    let known = room.log.range(first.to_owned()..).map(|(id, _)| id.as_str());
                    let known: Vec<_> = known.take_while(|id| *id <= last.as_str()).collect();
                    let ids: BTreeSet<_> = ids.collect();
                    assert!(known.iter().all(|id| ids.contains(id)), "a history with gaps");
                }
            }
            Ask::UserCount(count) => {
                expect(&[200]);
                assert_eq!(json["user_count"], count, "who is present");
            }
            Ask::End { .. } if status == 401 => {} // Its session has ended meanwhile.
            Ask::End { person, room, code, open } => {
                expect(&[200]);
                for socket in self.sockets_of(person, room) {
                    let Some(ws) = self.clients[socket].ws_mut() else { continue };
                    ws.possible.insert(code);
                    ws.must_close |= open.contains(&socket);
                }
            }
        }
    }

    fn on_posted(
        &mut self,
        person: usize,
        room: usize,
        text: &str,
        response: &Response,
        json: &Value,
    ) {
        let person = &self.people[person];
        let room = &mut self.rooms[room];
        match response.status {
            404 => assert!(!room.watched, "a watched room lives"),
            409 => assert!(person.shares_name, "nobody else has that name"),
            429 => assert!(self.limited && json["code"] == "rate_limited"),
            200 | 201 => {
                let id = room.note(&response.body);
                let message = &room.log[&id];
                assert!(message.nonce.is_some() && message.user == person.name);
                assert!(response.status == 200 || message.text == text, "said otherwise");
            }
            _ => {}
        }
    }

    pub(super) fn hear_ws(&mut self, index: usize, ws: &mut Ws) {
        if !ws.upgraded {
            let Some(response) = wire::take_response(&mut self.clients[index].inbox, false) else {
                let client = &self.clients[index];
                let lost = client.line != Seen::Open && client.honest && !self.is_shut_down;
                assert!(!lost, "client {index}: ended without an answer");
                return;
            };
            let answered = response.status == 101 || self.is_shut_down && response.status == 503;
            assert!(answered, "client {index}: {response:?}");
            ws.upgraded = response.status == 101;
            if !ws.upgraded {
                ws.closed = Some((1001, String::new()));
                return;
            }
            let accept = "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
            assert!(response.head.contains(accept), "{}", response.head);
        }
        while let Some((first, payload)) = wire::take_frame(&mut self.clients[index].inbox) {
            assert_eq!(ws.closed, None, "client {index}: something after the close");
            match first {
                TEXT => self.hear_text(index, ws, &payload),
                PING => {
                    ws.asked += 1;
                    if ws.due.is_none() {
                        self.send_frame(index, PONG, &payload);
                    }
                }
                PONG => {
                    let owed = ws.pings.pop_front() == Some(payload);
                    assert!(owed || !self.clients[index].honest, "client {index}: not its pong");
                }
                _ => self.hear_close(index, ws, &payload),
            }
        }
        let client = &self.clients[index];
        let ended = client.line != Seen::Open && client.honest && ws.closed.is_none();
        assert!(!ended, "client {index}: ended without a close");
    }

    fn hear_text(&mut self, index: usize, ws: &mut Ws, json: &[u8]) {
        if json.starts_with(b"{\"id\"") {
            return self.hear_message(index, ws, json);
        }
        if json.starts_with(b"{\"type\":\"history\"") {
            return self.hear_page(index, ws, json);
        }
        let value: Value = serde_json::from_slice(json).expect("events are JSON");
        let honest = self.clients[index].honest;
        match value["type"].as_str().expect("events have types") {
            "refused" => {
                let code = value["code"].as_str().expect("refusals have codes");
                let limited = self.limited && code == "rate_limited";
                let nonce = value["nonce"].as_str();
                let owed = ws.pay(|owed| match owed {
                    Owed::Refused(expected) => code == *expected,
                    Owed::Echo(_) => limited && nonce.is_none(),
                    Owed::Once { nonce: known, .. } => limited && nonce == Some(known),
                    Owed::Pong => false,
                });
                assert!(owed || !honest, "client {index}: refused {code}, owed {:?}", ws.owed);
            }
            "pong" => assert!(ws.pay(|owed| *owed == Owed::Pong) || !honest),
            "typing" => {
                assert_eq!(value["room_id"], *self.rooms[ws.room].id, "typing of another room");
                assert!(ws.is_live(), "client {index}: typing before its history");
            }
            kind => panic!("client {index}: {kind} is no event of ours"),
        }
    }

    fn hear_message(&mut self, index: usize, ws: &mut Ws, json: &[u8]) {
        let room = &mut self.rooms[ws.room];
        let id = room.note(json);
        let message = &room.log[&id];
        let last = ws.seen.last().map(String::as_str).max(ws.start.floor());
        let person = &self.people[ws.person];
        // Without pages, or with none in them, it begins where it came.
        let came = ws.after.as_deref().filter(|_| ws.is_live() && ws.pages.messages == 0);
        if last.max(came) >= Some(id.as_str()) {
            let again = message.nonce.as_ref().filter(|_| message.user == person.name);
            let sent = ws.sent.iter().position(|sent| Some(sent) == again);
            let sent = sent.unwrap_or_else(|| panic!("client {index}: out of order"));
            ws.sent.swap_remove(sent);
            let text = &message.text;
            ws.pay(|owed| matches!(owed, Owed::Once { text: said, .. } if said == text));
            return;
        }
        assert!(ws.is_live(), "client {index}: {:?} before its history", message.text);
        if ws.seen.len() == ws.pages.messages {
            let own = message.kind == "user_joined" && message.user == person.name;
            assert!(own || !ws.alone, "client {index}: first hears {:?}", message.text);
        }
        Self::hear_own(index, ws, room, &id);
        ws.seen.push(id);
    }

    /// If the message is the client's own, it was owed it.
    fn hear_own(index: usize, ws: &mut Ws, room: &Room, id: &str) {
        let message = &room.log[id];
        if message.kind != "chat" {
            return;
        }
        let owed = ws.pay(|owed| match owed {
            Owed::Echo(text) | Owed::Once { text, .. } => *text == message.text,
            Owed::Refused(_) | Owed::Pong => false,
        });
        let mine = message.text.starts_with(&format!("c{index}n")) && message.nonce.is_none();
        assert!(owed || !mine, "client {index} hears {:?}, owed {:?}", message.text, ws.owed);
    }

    fn hear_page(&mut self, index: usize, ws: &mut Ws, json: &[u8]) {
        assert!(!ws.is_live(), "client {index}: a page that it did not ask for");
        assert!(json.len() < 64 * 1024, "client {index}: a page of {} bytes", json.len());
        let room = &mut self.rooms[ws.room];
        let head = format!("{{\"type\":\"history\",\"room_id\":\"{}\",", room.id);
        assert!(json.starts_with(head.as_bytes()), "a history of another room");
        let (items, rest) = wire::items(json);
        for item in items {
            let id = room.note(item);
            let last = ws.seen.last().map(String::as_str).max(ws.start.floor());
            assert!(last < Some(id.as_str()), "client {index}: a page goes back");
            Self::hear_own(index, ws, room, &id);
            ws.seen.push(id);
        }
        ws.pages.count += 1;
        ws.pages.messages = ws.seen.len();
        let rest = [b"{", rest.strip_prefix(b",").expect("more follows")].concat();
        let rest: Value = serde_json::from_slice(&rest).expect("a page is JSON");
        if rest["more"] == true {
            assert!(rest.get("complete").is_none(), "only the last page tells");
            return;
        }
        assert_eq!(rest["more"], false);
        ws.pages.complete = rest["complete"].as_bool();
        let complete = ws.pages.complete.expect("the last page tells");
        let is_whole = matches!(ws.start, Start::Last(_)) || ws.start.floor().is_some();
        assert!(complete <= is_whole, "client {index}: nothing can be missing");
        if let Start::Last(count) = ws.start {
            assert!(complete && ws.pages.messages <= count, "client {index}: more than asked for");
        }
        let users = rest["users"].as_array().expect("users");
        let names = users.iter().map(|user| user["user"].as_str().expect("a name").to_owned());
        ws.pages.users = names.collect();
        let me = users.iter().find(|user| user["user_id"] == rest["you"]);
        let me = me.unwrap_or_else(|| panic!("client {index} is not among {users:?}"));
        assert_eq!(me["user"], *self.people[ws.person].name);
    }

    fn hear_close(&mut self, index: usize, ws: &mut Ws, payload: &[u8]) {
        let honest = self.clients[index].honest;
        let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
        let reason = String::from_utf8(payload.get(2..).unwrap_or_default().to_vec());
        let reason = reason.expect("reasons are UTF-8");
        if honest && ws.possible.contains(&code) {
            // Brought upon it by somebody else.
        } else if honest {
            assert_eq!(Some(code), ws.due, "client {index}: {reason}");
            if ws.possible.is_empty() && ws.start == Start::Live {
                assert!(ws.owed.is_empty(), "client {index}: closed, but owed {:?}", ws.owed);
            }
        }
        ws.closed = Some((code, reason));
        if ws.due.is_none() {
            self.send_frame(index, CLOSE, &payload[..payload.len().min(2)]);
        }
    }
}

impl Ws {
    /// Has been told what it asked for, and hears what comes.
    pub fn is_live(&self) -> bool {
        self.start == Start::Live || self.pages.complete.is_some()
    }

    /// Strikes out the first debt that is paid by what was heard, and says whether there was one.
    /// Answers come in the order of the questions; but what is said while catching up is heard
    /// later, in its place, than an answer for this socket alone.
    fn pay(&mut self, is_paid: impl Fn(&Owed) -> bool) -> bool {
        let in_order = self.start == Start::Live && self.sent.is_empty();
        let places = if in_order { self.owed.len().min(1) } else { self.owed.len() };
        match self.owed.iter().take(places).position(is_paid) {
            Some(place) => self.owed.remove(place).is_some(),
            None => false,
        }
    }
}
