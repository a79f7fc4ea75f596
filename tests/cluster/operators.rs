//! What an operator sees of the store: `/health`, metrics, and one line in the log for each change.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::client::post;
use crate::server::{Server, wait_until};
use crate::stores::Store;

fn is_up(server: &Server) -> bool {
    server.health()["store"] == "up"
}

/// The lines of the log that tell of the store, without what differs from run to run.
fn told(server: &Server) -> Vec<String> {
    let lines = server.stderr().into_iter().filter(|line| line.contains("the store is "));
    let lines = lines.filter(|line| !line.contains("the store is at "));
    lines.map(|line| line.split([':', ',']).take(2).collect::<Vec<_>>().join(":")).collect()
}

/// However many requests meet it.
// contract §17.2
#[test]
fn each_change_of_the_store_is_told_once() {
    Store::each(|store| {
        let mut own =
            Store::start(store.engine(), &["--appendonly", "yes", "--appendfsync", "always"]);
        let flags = ["--cluster-patience", "60s", "--cluster-timeout", "8s"];
        let server = Server::start_with_metrics(&[&["--cluster", &own.url()][..], &flags].concat());
        wait_until("the store is in use", || is_up(&server));
        let session = server.session("ana");
        let room = server.room(&session);
        let mut socket = server.enter_as(&room, "ana", &session);
        for name in ["calls", "fenced_total", "gaps_total", "leases_lost_total", "slow_total"] {
            wait_until(name, || server.metric(&format!("chat_store_{name}")) == 0);
        }
        assert_eq!(server.metric("chat_store_up"), 1);
        assert_eq!(server.metric("chat_store_connected_total"), 1);
        assert_eq!(server.metric("chat_store_resyncs_total"), 0);
        assert!(server.metric("chat_store_reply_seconds_count") > 0);

        // Slow, for a while: calls wait.
        let pid = Pid::from_raw(own.pid() as i32).expect("a process");
        kill_process(pid, Signal::STOP).expect("the store stops");
        socket.chat("slowly");
        wait_until("a call is late", || server.metric("chat_store_slow_total") == 1);
        assert!(server.metric("chat_store_calls") > 0);
        kill_process(pid, Signal::CONT).expect("the store goes on");
        socket.expect_chat("ana", "slowly");
        wait_until("no call waits", || told(&server).len() == 3);

        // Away.
        own.end();
        wait_until("the store is away", || !is_up(&server));
        assert_eq!(server.metric("chat_store_up"), 0);
        wait_until("it is told", || told(&server).len() >= 4);
        for _ in 0..50 {
            let answer = server.ask(post("/sessions").json(&json!({"username": "bob"})));
            answer.refused(503, "unavailable");
        }
        // Once for each reason: the connection has ended, and none can be made.
        assert!(told(&server).len() <= 5, "{:#?}", server.stderr());
        own.restart();
        wait_until("the store is in use again", || is_up(&server));
        assert_eq!(server.metric("chat_store_connected_total"), 2);
        assert_eq!(server.metric("chat_store_resyncs_total"), 1);
        assert_eq!(server.metric("chat_store_resyncs_failed_total"), 0);

        let mut lines = told(&server);
        let away = "warn: the store is away".to_owned();
        assert!(lines.iter().filter(|line| **line == away).count() <= 4, "{lines:#?}");
        lines.dedup();
        let expected = [
            "info: the store is connected",
            "warn: the store is slow",
            "info: the store is slow no longer",
            &away,
            "info: the store is connected",
        ];
        assert_eq!(lines, expected);
    });
}

#[test]
fn a_lost_lease_is_counted_and_told() {
    Store::each(|store| {
        let url = store.url();
        let lease = ["--cluster-lease", "3s", "--cluster-timeout", "1s", "--leave-grace", "1s"];
        let flags = [&["--cluster", &url][..], &lease].concat();
        let servers = [Server::start_with_metrics(&flags), Server::start_with_metrics(&flags)];
        for server in &servers {
            wait_until("the store is in use", || is_up(server));
        }
        let session = servers[0].session("ana");
        let room = servers[0].room(&session);
        let _socket = servers[0].enter_as(&room, "ana", &session);
        let mut other = servers[1].enter(&room, "bob");
        servers[0].while_stopped(|| {
            other.expect_event(&json!({"type": "user_left", "user": "ana"}));
        });
        other.expect_event(&json!({"type": "user_joined", "user": "ana"}));
        assert_eq!(servers[0].metric("chat_store_leases_lost_total"), 1);
        assert_eq!(servers[1].metric("chat_store_leases_lost_total"), 0);
        let lost = "warn: the store is away: it has given up this node; trying again";
        let lines = servers[0].stderr();
        assert_eq!(lines.iter().filter(|line| *line == lost).count(), 1, "{lines:#?}");
    });
}
