//! curl: all of REST, and the opening handshake of a WebSocket, written out.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::client::{Answer, KEY, delete};
use crate::program::{Ended, PATIENT, Running, command, find, needed, run};
use crate::server::{Server, wait_until};

/// curl against one server.
struct Curl {
    base: String,
    program: PathBuf,
}

impl Curl {
    /// `None` if the machine has no curl.
    fn new(server: &Server) -> Option<Curl> {
        let program = needed("curl", find(&["curl"]))?;
        Some(Curl { base: format!("http://{}", server.host()), program })
    }

    /// `curl -sS ARGS BASE/target`, without `.curlrc`.
    fn command(&self, args: &[&str], target: &str) -> Command {
        let mut command = command(&self.program);
        command.args(["-q", "-sS", "--max-time", "30"]).args(args);
        command.arg(format!("{}{target}", self.base));
        command
    }

    /// Runs curl with `-i` and parses the response.
    #[track_caller]
    fn answer(&self, args: &[&str], target: &str) -> Answer {
        let ended = run(self.command(args, target).arg("-i")).expect_success();
        answers(&ended).pop().expect("a response")
    }

    /// Asserts the status and returns the JSON of the response.
    #[track_caller]
    fn json(&self, args: &[&str], target: &str, status: u16) -> Value {
        self.answer(args, target).expect(status).json()
    }

    #[track_caller]
    fn session(&self, name: &str) -> String {
        let body = json!({"username": name}).to_string();
        let session = self.json(&["-d", &body], "/sessions", 201);
        assert_eq!(session["username"], name);
        session["session_id"].as_str().expect("an id").to_owned()
    }
}

/// Parses what curl prints with `-i`: the responses to a request, the informational ones included.
fn answers(ended: &Ended) -> Vec<Answer> {
    let mut answers: Vec<Answer> = Vec::new();
    let mut rest = &ended.stdout[..];
    while rest.starts_with(b"HTTP/") {
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
        let mut answer = Answer::from_head(&rest[..end]);
        rest = &rest[end + 4..];
        if answer.status >= 200 {
            let length = answer.field("Content-Length").and_then(|length| length.parse().ok());
            // A response to HEAD has a length and no body.
            let length = length.unwrap_or(0).min(rest.len());
            answer.body = rest[..length].to_vec();
            rest = &rest[length..];
        } else {
            answer.body = rest.to_vec();
        }
        answers.push(answer);
    }
    answers
}

fn bearer(session: &str) -> String {
    format!("Authorization: Bearer {session}")
}

#[test]
fn curl_can_use_all_of_rest() {
    let server = Server::start(PATIENT);
    let Some(curl) = Curl::new(&server) else { return };
    // `-d` declares the body as a form; examples for curl rarely set another type.
    let (ana, bob) = (curl.session("ana"), curl.session("bob 🦀"));
    let (as_ana, as_bob) = (bearer(&ana), bearer(&bob));
    let me = curl.json(&["-H", &as_ana], "/sessions/me", 200);
    assert_eq!(me, json!({"session_id": ana, "username": "ana", "joined_rooms": []}));

    let created = curl.answer(&["-X", "POST", "-H", &as_ana], "/rooms").expect(201);
    let room = created.string("room_id");
    assert_eq!(created.field("Location"), Some(format!("rooms/{room}").as_str()));
    let joined = curl.json(&["-X", "POST", "-H", &as_bob], &format!("/rooms/{room}/join"), 200);
    let message = format!("Joined room {room}");
    let expected =
        json!({"message": message, "room_id": room, "user_id": joined["user_id"].as_str()});
    assert_eq!(joined, expected);
    for target in ["/rooms", "/rooms/", "/rooms/all"] {
        assert_eq!(curl.json(&["-H", &as_bob], target, 200), json!({"rooms": [room]}));
    }

    // curl has no WebSocket to chat over, so the two use the client of the wire tests.
    let mut ana_socket = server.enter_as(&room, "ana", &ana);
    let mut bob_socket = server.enter_as(&room, "bob 🦀", &bob);
    ana_socket.expect_join("bob 🦀");
    ana_socket.chat("Hello world!");
    bob_socket.expect_chat("ana", "Hello world!");
    ana_socket.expect_chat("ana", "Hello world!");
    let shown = curl.json(&[], &format!("/rooms/{room}"), 200);
    let expected = json!({
        "room_id": room, "exists": true, "user_count": 2,
        "title": null, "private": false, "password": false, "locked": false, "slow_mode": 0,
        "encrypted": false, "created_at": shown["created_at"].as_str(), "expires_at": null,
    });
    assert_eq!(shown, expected);

    let messages = format!("/rooms/{room}/messages");
    let kept = curl.json(&["-H", &as_bob], &messages, 200);
    let kept: Vec<_> = kept["messages"].as_array().expect("messages").iter().collect();
    let sent: Vec<_> = kept.iter().map(|one| (&one["type"], &one["user"])).collect();
    let expected = json!([["user_joined", "ana"], ["user_joined", "bob 🦀"], ["chat", "ana"]]);
    assert_eq!(json!(sent), expected);
    let last = curl.json(&["-G", "-d", "limit=1", "-H", &as_bob], &messages, 200);
    assert_eq!(last, json!({"messages": [kept[2]]}));

    let leave = format!("/rooms/{room}/leave");
    let left = curl.json(&["-X", "DELETE", "-H", &as_bob], &leave, 200);
    assert_eq!(left, json!({"message": format!("Left room {room}")}));
    bob_socket.expect_close(1000, "left room");
    ana_socket.expect_left("bob 🦀");
    let ended = curl.json(&["-X", "DELETE", "-H", &as_ana], "/sessions/me", 200);
    assert_eq!(ended, json!({"message": "Session ended"}));
    ana_socket.expect_close(4401, "invalid or expired session");

    let again = curl.answer(&["-H", &as_ana], "/sessions/me").refused(401, "invalid_session");
    assert_eq!(again.field("WWW-Authenticate"), Some(r#"Bearer error="invalid_token""#));
    curl.answer(&[], "/rooms/0123456789").refused(404, "room_not_found");
    let failed = run(&mut curl.command(&["--fail", "-H", &as_ana], "/rooms"));
    assert_eq!(failed.status.code(), Some(22), "{failed:?}");
}

#[test]
fn curl_may_use_its_other_options() {
    let server = Server::start(PATIENT);
    let Some(curl) = Curl::new(&server) else { return };
    let health = |args: &[&str]| {
        let answer = curl.answer(args, "/health").expect(200);
        assert_eq!(answer.json()["status"], "ok");
        answer
    };
    health(&["--compressed"]);
    let page = |args: &[&str]| run(&mut curl.command(args, "/docs.js")).expect_success().stdout;
    assert!(page(&["--compressed"]) == page(&[]), "another file when compressed");
    health(&["--http1.0"]);
    health(&["-L", "-e", "http://elsewhere.example/", "-A", "", "-b", "a=b"]);
    // curl offers an upgrade to HTTP/2, which the server ignores.
    assert_eq!(health(&["--http2"]).version, "HTTP/1.1");
    let head = curl.answer(&["-I"], "/health").expect(200);
    assert_eq!(head.field("Content-Type"), Some("application/json"));

    let name = r#"{"username":"ana"}"#;
    curl.answer(&["-d", name, "-H", "Transfer-Encoding: chunked"], "/sessions").expect(201);
    curl.answer(&["-d", name, "--http1.0"], "/sessions").expect(201);
    let waiting =
        run(curl.command(&["-d", name, "-H", "Expect: 100-continue"], "/sessions").arg("-i"));
    let statuses: Vec<_> = answers(&waiting.expect_success()).iter().map(|a| a.status).collect();
    assert_eq!(statuses, [100, 201]);

    // curl receives a refusal although it is still sending the body.
    let body = format!("@{}", env!("CARGO_BIN_EXE_disposable-chat"));
    for expect in ["Expect:", "Expect: 100-continue"] {
        let args = ["--data-binary", &body, "-H", expect];
        curl.answer(&args, "/sessions").refused(413, "body_too_large");
    }

    // Three requests, one connection.
    let url = format!("{}/ping", curl.base);
    let counted = ["-w", "%{num_connects}", &url, &url];
    let ended = run(&mut curl.command(&counted, "/ping")).expect_success();
    let connects: String = ended.stdout().chars().filter(char::is_ascii_digit).collect();
    assert_eq!(connects, "100", "{ended:?}");
}

// contract §14.2 §14.3 §14.8
#[test]
fn curl_follows_a_room() {
    let server = Server::start(PATIENT);
    let Some(curl) = Curl::new(&server) else { return };
    let (ana, bob) = (curl.session("ana"), curl.session("bob"));
    let room = server.room(&ana);
    let mut inside = server.enter_as(&room, "ana", &ana);
    let target = format!("/rooms/{room}/events?history=0");
    let mut all: Vec<_> = [&[][..], &["-H", "Accept: text/event-stream"], &["--http1.0"]]
        .map(|args| {
            let as_bob = bearer(&bob);
            let mut command = curl.command(&["-N", "-H", &as_bob], &target);
            let curl = command.args(args).stdout(Stdio::piped()).spawn().expect("curl runs");
            (curl, String::new())
        })
        .into();
    inside.expect_join("bob");
    // What is said next comes after the history of each.
    let mut readers: Vec<_> = all
        .iter_mut()
        .map(|(curl, output)| {
            let mut reader = BufReader::new(curl.stdout.take().expect("it is piped"));
            while !output.contains(r#""type":"history""#) {
                assert_ne!(reader.read_line(output).expect("text"), 0, "{output}");
            }
            reader
        })
        .collect();
    let said = server.say(&room, &ana, "Hello curl!");
    server.ask(delete(&format!("/rooms/{room}")).session(&ana)).expect(200);
    let outputs: Vec<_> = all
        .into_iter()
        .zip(&mut readers)
        .map(|((mut curl, mut output), reader)| {
            reader.read_to_string(&mut output).expect("text");
            assert!(curl.wait().expect("curl ends").success(), "{output}");
            output
        })
        .collect();
    let close = json!({"type": "close", "code": 4410, "reason": "room deleted"});
    for output in [&outputs[0], &outputs[2]] {
        let lines: Vec<Value> =
            output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines[0]["type"], "history");
        assert_eq!(lines[lines.len() - 2..], [said.clone(), close.clone()], "{output}");
    }
    let id = said["id"].as_str().expect("an id");
    assert!(outputs[1].contains(&format!("\nid: {id}\n\n")), "{}", outputs[1]);
    assert!(outputs[1].ends_with("\nid: end\n\n"), "{}", outputs[1]);
}

// contract §1.22 §1.25
#[test]
fn a_preflight_allows_configured_origins_only() {
    let origin = "http://page.example:5173";
    let server = Server::start(&["--cors-origin", origin]);
    let Some(curl) = Curl::new(&server) else { return };
    let preflight = |origin: &str| {
        let origin = format!("Origin: {origin}");
        let method = "Access-Control-Request-Method: DELETE";
        let fields = "Access-Control-Request-Headers: authorization,content-type";
        let args = ["-X", "OPTIONS", "-H", &origin, "-H", method, "-H", fields];
        curl.answer(&args, "/sessions/me").expect(204)
    };
    let answer = preflight(origin);
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some(origin));
    assert_eq!(answer.field("Access-Control-Allow-Credentials"), Some("true"));
    for method in ["GET", "POST", "DELETE"] {
        assert!(answer.lists("Access-Control-Allow-Methods", method), "{answer:?}");
    }
    for field in ["Authorization", "Content-Type"] {
        assert!(answer.lists("Access-Control-Allow-Headers", field), "{answer:?}");
    }
    let foreign = preflight("http://elsewhere.example");
    assert_eq!(foreign.field("Access-Control-Allow-Origin"), None);
    for answer in [answer, foreign] {
        assert!(answer.lists("Vary", "Origin"), "{answer:?}");
    }
}

/// Parses unmasked frames of up to 64 KiB: the first byte and the payload of each.
#[track_caller]
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (length, rest) = match (second, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(*high) << 8 | usize::from(*low), rest),
            (..126, rest) => (usize::from(*second), rest),
            _ => panic!("an unexpected frame: {bytes:?}"),
        };
        assert!(rest.len() >= length, "a frame is cut short: {bytes:?}");
        frames.push((*first, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "{bytes:?}");
    frames
}

// contract §5.2 §5.4 §5.7
#[test]
fn curl_can_open_a_socket_by_its_handshake_fields() {
    let server = Server::start(PATIENT);
    let Some(curl) = Curl::new(&server) else { return };
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&bob);
    let mut bob_socket = server.enter_as(&room, "bob", &bob);
    let key = format!("Sec-WebSocket-Key: {KEY}");
    let version = "Sec-WebSocket-Version: 13";
    let (connection, upgrade) = ("Connection: Upgrade", "Upgrade: websocket");
    let handshake = ["-i", "-N", "--http1.1", "-H", connection, "-H", upgrade];
    let handshake = [&handshake[..], &["-H", version, "-H", &key]].concat();

    let as_ana = bearer(&ana);
    let args = [&handshake[..], &["-H", &as_ana]].concat();
    let running = Running::start(&mut curl.command(&args, &format!("/ws/{room}")));
    bob_socket.expect_join("ana");
    bob_socket.chat("hello");
    bob_socket.expect_chat("bob", "hello");
    curl.answer(&["-X", "DELETE", "-H", &as_ana], &format!("/rooms/{room}/leave")).expect(200);
    bob_socket.expect_left("ana");
    let ended = running.finish().expect_success();
    let answer = answers(&ended).pop().expect("a response").expect(101);
    assert!(answer.lists("Connection", "Upgrade") && answer.lists("Upgrade", "websocket"));
    assert_eq!(answer.field("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let frames_read = frames(&answer.body);
    let [(0x81, join), (0x81, chat), (0x88, close)] = &frames_read[..] else {
        panic!("{frames_read:?}")
    };
    let event = |text: &[u8]| serde_json::from_slice::<Value>(text).expect("an event in JSON");
    assert_eq!(
        (&event(join)["type"], &event(join)["user"]),
        (&json!("user_joined"), &json!("ana"))
    );
    assert_eq!((&event(chat)["type"], &event(chat)["message"]), (&json!("chat"), &json!("hello")));
    assert_eq!(close[..], [&1000u16.to_be_bytes()[..], b"left room"].concat());

    // Without a session the upgrade succeeds, and the close frame has the reason.
    let ended = run(&mut curl.command(&handshake, &format!("/ws/{room}"))).expect_success();
    let answer = answers(&ended).pop().expect("a response").expect(101);
    let close = [&4401u16.to_be_bytes()[..], b"invalid or expired session"].concat();
    assert_eq!(frames(&answer.body), [(0x88, close)]);

    // A request that is no upgrade is refused.
    let answer = curl.answer(&["-H", &as_ana], &format!("/ws/{room}"));
    let answer = answer.refused(426, "upgrade_required");
    assert!(answer.lists("Upgrade", "websocket"), "{answer:?}");
    wait_until("only bob is left", || server.user_count(&room) == Some(1));
}
