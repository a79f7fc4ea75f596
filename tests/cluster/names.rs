//! Names that are wanted at another server than their holder's.

use crate::client::{Ws, delete, get, upgrade};
use crate::nodes::Nodes;
use crate::server::{Server, wait_until};
use crate::stores::Store;

const FLAGS: &[&str] = &["--probe-timeout", "1h", "--leave-grace", "1h"];

/// A socket that waits for the name of ana, and its session.
fn waiting(node: &Server, room: &str) -> (Ws, String) {
    let session = node.session("ana");
    let mut http = node.http();
    http.send_request(&upgrade(&format!("/ws/{room}?session_id={session}")));
    (http.upgraded(), session) // The answer comes when it waits.
}

/// Regression: after all connections that waited were closed, the probe went on until its end. So long the holder
/// had no grace, and newcomers waited without the holder being asked again.
// contract §3.5
#[test]
fn a_probe_ends_with_the_last_who_waits() {
    Store::each(|store| {
        let nodes = Nodes::start(2, store, FLAGS);
        let (one, other) = (nodes.node(0), nodes.node(1));
        let bob = one.session("bob");
        let room = one.room(&bob);
        let mut ana = one.enter(&room, "ana");
        let mut admin = store.admin();
        let key = format!("dc:{{0}}:b:{room}");
        // The holder, the end of the probe, and the servers where somebody waits.
        let mut servers = || admin.must(&["HGET", &key, "ana"]).text().split(' ').count() - 3;
        let end = |session| one.ask(delete("/sessions/me").session(session)).expect(200);
        let (first, session) = waiting(other, &room);
        ana.expect_ping();
        let (second, session_2) = waiting(other, &room);
        let mut stream = one.http();
        let session_3 = one.session("ana");
        stream.send_request(&get(&format!("/rooms/{room}/events")).session(&session_3));
        wait_until("they wait at both servers", || servers() == 2);
        end(&session);
        first.expect_close(4401, "invalid or expired session");
        other.session("later"); // The store has seen all that this server said before.
        assert_eq!(servers(), 2, "the second waits");
        end(&session_2);
        second.expect_close(4401, "invalid or expired session");
        wait_until("nobody waits there", || servers() == 1);
        end(&session_3);
        stream.answer().refused(401, "invalid_session");
        let mut probes = || admin.must(&["HLEN", &key]).number();
        wait_until("the probe has ended", || probes() == 0);
        // For the next one the holder is asked again.
        let (third, _) = waiting(other, &room);
        let ping = ana.expect_ping();
        ana.pong(ping);
        third.expect_close(4409, "name taken");
    });
}
