//! What peers hear: each holds every answer, frame and end against what it is owed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Ask, Http, Owed, World, Ws};
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
            Ask::Status(statuses) => expect(statuses),
            Ask::Head(expected) => expect(&[expected]),
            Ask::Session(person) => {
                expect(&[201]);
                self.people[person].session = json["session_id"].as_str().map(str::to_owned);
            }
            Ask::Room => {
                expect(&[201]);
                let id = json["room_id"].as_str().expect("a room has an id");
                self.rooms.push(Room::new(id.to_owned()));
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
        let room = &mut self.rooms[ws.room];
        let known = room.known.get(json).cloned();
        let id = match known {
            Some(id) => id,
            None => {
                let value: Value = serde_json::from_slice(json).expect("events are JSON");
                match value["type"].as_str().expect("events have types") {
                    "refused" => {
                        let code = value["code"].as_str().expect("refusals have codes");
                        let (owed, limited) = (ws.owed.pop_front(), self.limited);
                        match owed {
                            _ if !self.clients[index].honest => {}
                            Some(Owed::Refused(expected)) if code == expected => {}
                            Some(Owed::Echo(_)) if limited && code == "rate_limited" => {}
                            _ => panic!("client {index}: refused {code}, owed {owed:?}"),
                        }
                        return;
                    }
                    "pong" => {
                        let owed = ws.owed.pop_front();
                        assert!(owed == Some(Owed::Pong) || !self.clients[index].honest);
                        return;
                    }
                    "typing" => {
                        assert_eq!(value["room_id"], *room.id, "typing of another room");
                        return;
                    }
                    _ => room.note(json),
                }
            }
        };
        let message = &room.log[&id];
        match ws.seen.last() {
            Some(last) => assert!(*last < id, "client {index}: out of order"),
            None => {
                assert!(ws.after.as_ref() < Some(&id), "client {index}: older than its coming");
                let own =
                    message.kind == "user_joined" && message.user == self.people[ws.person].name;
                assert!(own || !ws.alone, "client {index}: first hears {:?}", message.text);
            }
        }
        let mine = format!("c{index}n");
        if message.kind == "chat" && message.text.starts_with(&mine) {
            let owed = ws.owed.pop_front();
            let Some(Owed::Echo(text)) = &owed else {
                panic!("client {index} hears {:?}, owed {owed:?}", message.text)
            };
            assert_eq!(*text, message.text, "client {index}: not what it said");
        }
        ws.seen.push(id);
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
            if ws.possible.is_empty() {
                assert!(ws.owed.is_empty(), "client {index}: closed, but owed {:?}", ws.owed);
            }
        }
        ws.closed = Some((code, reason));
        if ws.due.is_none() {
            self.send_frame(index, CLOSE, &payload[..payload.len().min(2)]);
        }
    }
}
