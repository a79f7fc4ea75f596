//! Access rules: one table of what each kind of session may do in each kind of room.

use serde_json::json;

use crate::client::{Http, delete, get, post, upgrade};
use crate::server::Server;

#[derive(Clone, Copy, Debug)]
enum Access {
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
    /// No room has this id, which has the form of a public room's id.
    None,
    /// No room has this id, which has the form of a private room's id.
    Wrong,
    /// The room existed and has been deleted.
    Deleted,
}

#[derive(Clone, Copy, Debug)]
enum Caller {
    /// No session.
    None,
    /// A session that has never joined any room.
    Outsider,
    /// A session that has joined the room.
    Member,
    /// A session that had joined the room and has left it.
    Left,
    /// The session that created the room.
    Owner,
    /// A session that has joined another room of the same kind.
    Other,
}

/// Stands for an open socket in the table.
const OPEN: u16 = 101;

use Access::{Join, PostMessages, ReadMessages, Socket, Users};
use Kind::{Deleted, Password, Private, Public};

const CALLERS: [Caller; 6] =
    [Caller::None, Caller::Outsider, Caller::Member, Caller::Left, Caller::Owner, Caller::Other];

/// Status or close code, in the order of `CALLERS`.
#[rustfmt::skip]
const TABLE: [(Kind, Access, [u16; 6]); 30] = [
    //                        none  outsider  member   left   owner   other
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

/// A room and the session that accesses it. Each case has its own, since an access may make a session a member.
struct Case {
    room: String,
    session: Option<String>,
}

impl Case {
    fn new(server: &Server, http: &mut Http, kind: Kind, caller: Caller, number: usize) -> Case {
        let mut session = |name: String| {
            let answer = http.ask(&post("/sessions").json(&json!({"username": name}))).expect(201);
            answer.string("session_id")
        };
        let owner = session(format!("owner {number}"));
        let guest = session(format!("guest {number}"));
        let body = match kind {
            Private => json!({"private": true}),
            Password | Deleted => json!({"password": "x"}),
            Public | Kind::None | Kind::Wrong => json!({}),
        };
        let room = server.room_with(&owner, &body);
        match caller {
            Caller::None | Caller::Outsider | Caller::Owner => {}
            Caller::Member => server.join_with(&room, &guest, "x"),
            Caller::Left => {
                server.join_with(&room, &guest, "x");
                let leave = delete(&format!("/rooms/{room}/leave")).session(&guest);
                http.ask(&leave).expect(200);
            }
            Caller::Other => {
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
        let session = match caller {
            Caller::None => None,
            Caller::Owner => Some(owner),
            Caller::Outsider | Caller::Member | Caller::Left | Caller::Other => Some(guest),
        };
        Case { room, session }
    }

    /// The status or close code, and the code of the error if the response is one.
    fn access(&self, server: &Server, http: &mut Http, access: Access) -> (u16, Option<String>) {
        let room = &self.room;
        let target = match access {
            Join => format!("/rooms/{room}/join"),
            Socket => format!("/ws/{room}?history=10"),
            ReadMessages | PostMessages => format!("/rooms/{room}/messages"),
            Users => format!("/rooms/{room}/users"),
        };
        let request = match access {
            Join => post(&target),
            Socket => upgrade(&target),
            PostMessages => post(&target).json(&json!({"message": "x"})),
            ReadMessages | Users => get(&target),
        };
        let request = match &self.session {
            Some(id) => request.session(id),
            None => request,
        };
        if !matches!(access, Socket) {
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
fn each_session_has_the_documented_access_to_each_room() {
    let server = Server::start(&[]);
    let mut http = server.http();
    let mut wrong = Vec::new();
    for (row, (kind, access, expected)) in TABLE.into_iter().enumerate() {
        for (column, (caller, expected)) in CALLERS.into_iter().zip(expected).enumerate() {
            let case = Case::new(&server, &mut http, kind, caller, row * CALLERS.len() + column);
            let (status, code) = case.access(&server, &mut http, access);
            let named = match (expected, access) {
                (401, _) => Some("missing_session"),
                (403, Join) => Some("bad_password"),
                (403, _) => Some("not_a_member"),
                (404, _) => Some("room_not_found"),
                _ => None,
            };
            if (status, code.as_deref()) != (expected, named) {
                wrong.push(format!(
                    "{kind:?} room, {access:?}, {caller:?}: {status} {code:?}, not {expected} {named:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
