//! How a server starts on a store, and what it does while it has none.
//!
//! A store that is unfit ends the server with one line and exit code 1. One that is away, loading or a
//! replica is tried again, and requests get 503 meanwhile.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;

use serde_json::json;

use crate::client::{Answer, post};
use crate::server::{Server, wait_until};
use crate::stores::{PASSWORD, Store, USER};

/// The server ends by itself, with exit code 1. Its last line, which is the only one that is no log.
#[track_caller]
fn check_unfit(url: &str, flags: &[&str], expected: &str) {
    let all = [&["--cluster", url][..], flags].concat();
    let mut server = Server::start(&all);
    let lines = server.stderr_to_the_end();
    let is_log = |line: &&String| line.starts_with("info: ") || line.starts_with("listening on ");
    let told: Vec<_> = lines.iter().filter(|line| !is_log(line)).collect();
    let [line] = told[..] else { panic!("not one line: {lines:#?}") };
    assert!(line.contains(expected), "{line}");
    assert!(!lines.concat().contains(PASSWORD), "{lines:#?}");
    assert_eq!(server.wait().code(), Some(1));
}

fn try_session(server: &Server) -> Answer {
    server.ask(post("/sessions").json(&json!({"username": "ana"})))
}

fn refuses(server: &Server) {
    let answer = try_session(server).refused(503, "unavailable");
    assert_eq!(answer.field("Retry-After"), Some("1"));
}

/// The store is in use: a session can be opened.
fn serves(server: &Server) {
    wait_until("the store is in use", || try_session(server).status == 201);
}

/// A file in the store's folder, which ends with it.
fn file(store: &Store, name: &str, text: &str) -> PathBuf {
    let path = store.socket().with_file_name(name);
    fs::write(&path, text).expect("the folder is ours");
    path
}

#[test]
fn a_store_with_records_of_another_version_ends_the_server() {
    Store::each(|store| {
        store.admin().must(&["HSET", "dc:{0}:cfg", "terms", "another"]);
        check_unfit(&store.url(), &[], "the records of another version (another, ");
    });
}

/// Regression: such servers shared no session and no room, said nothing, and looked healthy.
#[test]
fn a_server_with_another_secret_or_other_partitions_than_the_store_s_ends() {
    Store::each(|store| {
        let secrets = ["one", "two"].map(|name| file(store, name, &name.repeat(20)));
        let [one, two] = secrets.each_ref().map(|path| path.to_str().expect("a path"));
        let url = store.url();
        let first = Server::start(&["--cluster", &url, "--cluster-secret", one]);
        serves(&first);
        let secret = "--cluster-secret is not that of the store's other servers";
        check_unfit(&url, &["--cluster-secret", two], secret);
        check_unfit(&url, &[], secret);
        let partitions = "the store's servers have --cluster-partitions 1, and this one has 4";
        check_unfit(&url, &["--cluster-secret", one, "--cluster-partitions", "4"], partitions);
        serves(&Server::start(&["--cluster", &url, "--cluster-secret", one]));
        serves(&first);
    });
}

#[test]
fn a_store_without_rights_ends_the_server() {
    Store::each(|store| {
        let socket = store.socket();
        let url = |password: &str| format!("unix:{}?user={USER}&pass={password}", socket.display());
        check_unfit(&url("wrong"), &[], "WRONGPASS");
        store.admin().must(&["ACL", "SETUSER", USER, "-ssubscribe"]);
        check_unfit(&store.url(), &[], "NOPERM");
        store.admin().must(&["ACL", "SETUSER", USER, "+ssubscribe", "-function|load"]);
        store.admin().must(&["FUNCTION", "FLUSH"]);
        check_unfit(&store.url(), &[], "it may not load them");
    });
}

/// An operator who does not want servers to load functions loads them himself.
#[test]
fn functions_that_are_there_need_not_be_loaded() {
    Store::each(|store| {
        let first = Server::start(&["--cluster", &store.url()]);
        serves(&first);
        store.admin().must(&["ACL", "SETUSER", USER, "-function|load"]);
        let second = Server::start(&["--cluster", &store.url()]);
        serves(&second);
    });
}

/// A program that answers like an old store.
fn check_too_old(answers: &'static [u8], expected: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let store = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut first = [0; 16];
        stream.read_exact(&mut first).unwrap();
        stream.write_all(answers).unwrap();
        // Until the server has ended.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    check_unfit(&format!("redis://{address}"), &[], expected);
    store.join().unwrap();
}

#[test]
fn an_old_store_ends_the_server() {
    check_too_old(b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n", "too old");
    check_too_old(
        b"%1\r\n+server\r\n+redis\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n$19\r\nredis_version:6.2.7\r\n",
        "too old (6.2.7)",
    );
}

#[test]
fn a_store_that_is_away_at_the_start_is_tried_again() {
    Store::each(|store| {
        let nowhere = store.socket().with_file_name("nowhere");
        let named = file(store, "url", &format!("unix:{}\n", nowhere.display()));
        let server = Server::start(&["--cluster", &format!("@{}", named.display())]);
        refuses(&server);
        // A file that is being written, or was written wrongly, is read again, too.
        fs::write(&named, "redis://store.example\n").unwrap();
        refuses(&server);
        fs::write(&named, format!("{}\nanything\n", store.url())).unwrap();
        serves(&server);
        let lines = server.stderr();
        assert!(!lines.concat().contains(PASSWORD), "{lines:#?}");
    });
}

#[test]
fn a_replica_is_tried_again_until_it_is_promoted() {
    Store::each(|store| {
        // Nothing listens at this port, so it stays a replica without a primary.
        store.admin().must(&["CONFIG", "SET", "replica-serve-stale-data", "yes"]);
        store.admin().must(&["REPLICAOF", "127.0.0.1", "1"]);
        let server = Server::start(&["--cluster", &store.url()]);
        refuses(&server);
        let is_told = || server.stderr().iter().any(|line| line.contains("it is a replica"));
        wait_until("it says so", is_told);
        refuses(&server);
        store.admin().must(&["REPLICAOF", "NO", "ONE"]);
        serves(&server);
    });
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    Store::each(|store| {
        let server = Server::start(&["--cluster", &store.url()]);
        serves(&server);
        for _ in 0..3 {
            store.admin().must(&["CLIENT", "KILL", "USER", USER]);
            serves(&server);
        }
        let told = server.stderr();
        let told = |text: &str| told.iter().filter(|line| line.contains(text)).count();
        assert!(told("the store is away") <= 3 && told("the store is connected") >= 2);
    });
}

/// The node is known again after its functions have been dropped.
#[test]
fn functions_that_are_flushed_are_loaded_again() {
    Store::each(|store| {
        let server = Server::start(&["--cluster", &store.url()]);
        serves(&server);
        store.admin().must(&["FUNCTION", "FLUSH"]);
        serves(&server);
    });
}

#[test]
fn a_file_of_the_store_that_is_not_there_is_named() {
    let server = Server::start(&["--cluster", "@/nowhere/store"]);
    let told = "the store is away: /nowhere/store: No such file or directory";
    wait_until(told, || server.stderr().concat().contains(told));
}

#[test]
fn the_secret_is_in_a_file_or_in_the_store() {
    Store::each(|store| {
        let secret = file(store, "secret", &"0123456789abcdef".repeat(2));
        let secret = format!("--cluster-secret={}", secret.display());
        let server = Server::start(&["--cluster", &store.url(), &secret]);
        serves(&server);
        let kept = || store.admin().call(&["HGET", "dc:{0}:cfg", "secret"]).text();
        assert_eq!(kept(), "-", "nothing");
        drop(server);
        store.admin().must(&["FLUSHALL"]); // Its servers had another secret.
        let server = Server::start(&["--cluster", &store.url()]);
        serves(&server);
        assert_eq!(kept().len(), 64);
        let short =
            file(store, "short", "0123456789abcdef\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n");
        let flags = ["--cluster", &store.url(), "--cluster-secret", &short.display().to_string()];
        let ended = crate::server::command(&flags, &[]).output().unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1));
        assert!(told.contains("it does not have 32 to 4096 bytes"), "{told}");
    });
}
