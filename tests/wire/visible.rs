//! Names, titles and messages that show nothing, and names that look the same.

use serde_json::json;

use crate::client::{get, post};
use crate::server::Server;

/// Characters that show nothing: ignorable ones, and blank letters.
const BLANK: [char; 14] = [
    '\u{ad}',
    '\u{34f}',
    '\u{115f}',
    '\u{1160}',
    '\u{180e}',
    '\u{200b}',
    '\u{200d}',
    '\u{2060}',
    '\u{2800}',
    '\u{3164}',
    '\u{fe0f}',
    '\u{feff}',
    '\u{ffa0}',
    '\u{e0041}',
];

// contract §3.16
#[test]
fn a_name_a_title_and_a_message_have_a_visible_character() {
    let server = Server::start(&["--message-rate", "0"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut socket = server.enter_as(&room, "ana", &ana);
    let talk = post(&format!("/rooms/{room}/messages")).session(&ana);
    let all: String = BLANK.iter().collect();
    let texts = BLANK.iter().map(|c| format!("{c} {c}")).chain([all.clone()]);
    for blank in texts {
        let name = post("/sessions").json(&json!({"username": blank}));
        server.ask(name).refused(400, "bad_username");
        let title = post("/rooms").session(&ana).json(&json!({"title": blank}));
        server.ask(title).refused(422, "bad_body");
        server.ask(talk.clone().json(&json!({"message": blank}))).refused(422, "empty_message");
        socket.chat(&blank);
        socket.expect_refused("empty_message");
    }
    // One is enough, and the others stay.
    let text = format!("{all}.");
    let name = server.ask(post("/sessions").json(&json!({"username": text}))).expect(201);
    assert_eq!(name.string("username"), text);
    let titled = server.room_with(&ana, &json!({"title": text}));
    assert_eq!(server.ask(get(&format!("/rooms/{titled}"))).expect(200).string("title"), text);
    socket.chat(&text);
    socket.expect_chat("ana", &text);
    // White space is trimmed before that.
    socket.chat(&format!(" {all} "));
    socket.expect_refused("empty_message");
}

// contract §3.17
#[test]
fn names_that_differ_in_ignorable_characters_are_the_same() {
    let server = Server::start(&[]);
    let maria = server.session("Maria");
    let room = server.room(&maria);
    let mut holder = server.enter_as(&room, "Maria", &maria);
    for same in ["Maria\u{200b}", "m\u{ad}aria\u{fe0f}", "\u{2060}MARIA \u{feff}"] {
        let other = server.session(same);
        server.join(&room, &other);
        let talk = post(&format!("/rooms/{room}/messages")).session(&other);
        server.ask(talk.json(&json!({"message": "hi"}))).refused(409, "name_taken");
        let newcomer = server.socket(&room, &other);
        let payload = holder.expect_ping();
        holder.pong(payload);
        newcomer.expect_close(4409, "name taken");
    }
    for different in ["Maria\u{2800}", "Mar\u{ed}a", "Mari\u{301}a", "Mar ia"] {
        server.enter(&room, different);
        holder.expect_join(different);
    }
}
