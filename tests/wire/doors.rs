//! The door matrix: one table says who may enter, read and speak, in which kind of room.

use serde_json::json;

use crate::client::{Http, delete, get, post, upgrade};
use crate::server::Server;

#[derive(Clone, Copy, Debug)]
enum Door {
    Join,
    Socket,
    ReadMessages,
    PostMessages,
    Users,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Public,
    Private,
    Password,
    /// No room has this id, though it is shaped like a public room's.
    None,
    /// The same, shaped like a private room's.
    Wrong,
    /// There was such a room.
    Deleted,
}

#[derive(Clone, Copy, Debug)]
enum Who {
    /// Without a session.
    None,
    /// A session that was never here.
    Stranger,
    /// Has joined.
    Member,
    /// Had joined, and left.
    Left,
    /// Has made the room.
    Owner,
    /// Has joined another room of the same kind.
    Other,
}

/// What an open socket counts as in the table.
const OPEN: u16 = 101;

use Door::{Join, PostMessages, ReadMessages, Socket, Users};
use Kind::{Deleted, Password, Private, Public};

const WHO: [Who; 6] = [Who::None, Who::Stranger, Who::Member, Who::Left, Who::Owner, Who::Other];

/// Status or close code, in the order of `WHO`.
#[rustfmt::skip]
const TABLE: [(Kind, Door, [u16; 6]); 30] = [
    //                        none  stranger  member   left   owner   other
    (Public, Join,           [401,    200,     200,    200,    200,    200]),
    (Public, Socket,         [4401,  OPEN,    OPEN,   OPEN,   OPEN,   OPEN]),
    (Public, ReadMessages,   [401,    200,     200,    200,    200,    200]),
    (Public, PostMessages,   [401,    403,     201,    403,    201,    403]),
    (Public, Users,          [401,    200,     200,    200,    200,    200]),

    (Private, Join,          [401,    200,     200,    200,    200,    200]),
    (Private, Socket,        [4401,  OPEN,    OPEN,   OPEN,   OPEN,   OPEN]),
    (Private, ReadMessages,  [401,    200,     200,    200,    200,    200]),
    (Private, PostMessages,  [401,    403,     201,    403,    201,    403]),
    (Private, Users,         [401,    200,     200,    200,    200,    200]),

    (Password, Join,         [401,    403,     200,    403,    200,    403]),
    (Password, Socket,       [4401,  4403,    OPEN,   4403,   OPEN,   4403]),
    (Password, ReadMessages, [401,    403,     200,    403,    200,    403]),
    (Password, PostMessages, [401,    403,     201,    403,    201,    403]),
    (Password, Users,        [401,    403,     200,    403,    200,    403]),

    (Kind::None, Join,         [401,  404,     404,    404,    404,    404]),
    (Kind::None, Socket,       [4401, 4404,   4404,   4404,   4404,   4404]),
    (Kind::None, ReadMessages, [401,  404,     404,    404,    404,    404]),
    (Kind::None, PostMessages, [401,  404,     404,    404,    404,    404]),
    (Kind::None, Users,        [401,  404,     404,    404,    404,    404]),

    (Kind::Wrong, Join,         [401, 404,     404,    404,    404,    404]),
    (Kind::Wrong, Socket,       [4401, 4404,  4404,   4404,   4404,   4404]),
    (Kind::Wrong, ReadMessages, [401, 404,     404,    404,    404,    404]),
    (Kind::Wrong, PostMessages, [401, 404,     404,    404,    404,    404]),
    (Kind::Wrong, Users,        [401, 404,     404,    404,    404,    404]),

    (Deleted, Join,         [401,     404,     404,    404,    404,    404]),
    (Deleted, Socket,       [4401,   4404,    4404,   4404,   4404,   4404]),
    (Deleted, ReadMessages, [401,     404,     404,    404,    404,    404]),
    (Deleted, PostMessages, [401,     404,     404,    404,    404,    404]),
    (Deleted, Users,        [401,     404,     404,    404,    404,    404]),
];

/// A session of its own for each case: who enters by one door is no stranger at the next.
struct Case {
    room: String,
    session: Option<String>,
}

impl Case {
    fn new(server: &Server, http: &mut Http, kind: Kind, who: Who, number: usize) -> Case {
        let mut session = |name: String| {
            let answer = http.ask(&post("/sessions").json(&json!({"username": name}))).expect(201);
            answer.json()["session_id"].as_str().expect("an id").to_owned()
        };
        let owner = session(format!("owner {number}"));
        let guest = session(format!("guest {number}"));
        let body = match kind {
            Private => json!({"private": true}),
            Password | Deleted => json!({"password": "x"}),
            Public | Kind::None | Kind::Wrong => json!({}),
        };
        let room = server.room_with(&owner, &body);
        match who {
            Who::None | Who::Stranger | Who::Owner => {}
            Who::Member => server.join_with(&room, &guest, "x"),
            Who::Left => {
                server.join_with(&room, &guest, "x");
                let leave = delete(&format!("/rooms/{room}/leave")).session(&guest);
                http.ask(&leave).expect(200);
            }
            Who::Other => {
                let other = server.room_with(&owner, &body);
                server.join_with(&other, &guest, "x");
            }
        }
        let wrong = if room.ends_with('0') { "1" } else { "0" };
        let room = match kind {
            Public | Private | Password => room,
            Kind::None => format!("{}{wrong}", &room[..9]),
            Kind::Wrong => format!("{room}{room}{room}{wrong}{wrong}"),
            Deleted => {
                http.ask(&delete(&format!("/rooms/{room}")).session(&owner)).expect(200);
                room
            }
        };
        let session = match who {
            Who::None => None,
            Who::Owner => Some(owner),
            Who::Stranger | Who::Member | Who::Left | Who::Other => Some(guest),
        };
        Case { room, session }
    }

    /// The status or close code, and the error's code if it is one.
    fn knock(&self, server: &Server, http: &mut Http, door: Door) -> (u16, Option<String>) {
        let room = &self.room;
        let target = match door {
            Join => format!("/rooms/{room}/join"),
            Socket => format!("/ws/{room}?history=10"),
            ReadMessages | PostMessages => format!("/rooms/{room}/messages"),
            Users => format!("/rooms/{room}/users"),
        };
        let request = match door {
            Join => post(&target),
            Socket => upgrade(&target),
            PostMessages => post(&target).json(&json!({"message": "x"})),
            ReadMessages | Users => get(&target),
        };
        let request = match &self.session {
            Some(id) => request.session(id),
            None => request,
        };
        if !matches!(door, Socket) {
            let answer = http.ask(&request);
            let code = answer.json()["code"].as_str().map(str::to_owned);
            return (answer.status, code);
        }
        let mut socket = server.upgrade(request);
        let first = socket.frame();
        if first.opcode == crate::client::CLOSE {
            let code = [first.payload[0], first.payload[1]];
            return (u16::from_be_bytes(code), None);
        }
        crate::client::history_of(&first);
        assert_eq!(socket.event()["type"], "user_joined");
        socket.expect_nothing();
        socket.close();
        (OPEN, None)
    }
}

// contract §5.7 §8.14 §10.5
#[test]
fn who_comes_in_where() {
    let server = Server::start(&[]);
    let mut http = server.http();
    let mut wrong = Vec::new();
    for (row, (kind, door, expected)) in TABLE.into_iter().enumerate() {
        for (column, (who, expected)) in WHO.into_iter().zip(expected).enumerate() {
            let case = Case::new(&server, &mut http, kind, who, row * WHO.len() + column);
            let (status, code) = case.knock(&server, &mut http, door);
            let named = match (expected, door) {
                (401, _) => Some("missing_session"),
                (403, Join) => Some("bad_password"),
                (403, _) => Some("not_a_member"),
                (404, _) => Some("room_not_found"),
                _ => None,
            };
            if (status, code.as_deref()) != (expected, named) {
                wrong.push(format!(
                    "{kind:?} room, {door:?}, {who:?}: {status} {code:?}, not {expected} {named:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
