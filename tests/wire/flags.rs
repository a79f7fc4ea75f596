//! Flags and their environment variables, listeners, `check`, and the log on stderr.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Http, chat, delete, get, post, text, upgrade};
use crate::server::{Address, DEADLINE, Server, command, limited, run, socket_path};

/// The flags of contract §12.5 and on.
const FLAGS: [&str; 27] = [
    "--listen",
    "--session-ttl",
    "--room-ttl",
    "--new-room-ttl",
    "--leave-grace",
    "--header-timeout",
    "--body-timeout",
    "--idle-timeout",
    "--linger-timeout",
    "--ping-interval",
    "--ping-timeout",
    "--probe-timeout",
    "--history",
    "--message-rate",
    "--message-burst",
    "--session-rate",
    "--room-rate",
    "--address-connections",
    "--trusted-proxy",
    "--max-connections",
    "--max-sessions",
    "--max-rooms",
    "--max-memory",
    "--outbox",
    "--cors-origin",
    "--log",
    "--help",
];

/// The value of `--listen` for a Unix socket.
fn shown(path: &std::path::Path) -> String {
    format!("unix:{}", path.display())
}

// Listeners.

// contract §12.5 §12.7
#[test]
fn the_server_listens_on_every_address_given() {
    let path = socket_path("several");
    let unix = shown(&path);
    let mut flags = vec!["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--listen", &unix];
    if TcpListener::bind("[::1]:0").is_ok() {
        flags.extend(["--listen", "[::1]:0"]);
    } else {
        eprintln!("skipped in part: this machine has no IPv6");
    }
    let count = flags.len() / 2;
    let server = Server::spawn(command(&flags, &[]), count);
    let ana = server.session("ana");
    let room = server.room(&ana);
    for address in &server.addresses {
        let mut http = Http::connect(address);
        http.ask(&get("/sessions/me").session(&ana)).expect(200);
        http.ask(&get(&format!("/rooms/{room}"))).expect(200);
        let target = format!("/ws/{room}?session_id={ana}");
        let mut socket = Http::connect(address).upgrade(&upgrade(&target));
        socket.chat("hi");
        while socket.event()["message"] != "hi" {}
    }
}

#[test]
fn a_unix_socket_is_replaced_when_stale_and_removed_at_the_end() {
    let path = socket_path("stale");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "a stale socket");
    let mut server = Server::spawn(command(&["--listen", &shown(&path)], &[]), 1);
    assert_eq!(server.addresses, [Address::Unix(path.clone())]);
    let (_, mut ana, mut bob) = server.room_of_two();
    ana.chat("over a file");
    bob.expect_chat("ana", "over a file");
    drop((ana, bob));
    server.terminate();
    assert!(server.wait().success());
    assert!(!path.exists());
}

// contract §12.6
#[test]
fn port_listens_on_every_ipv4_address() {
    let server = Server::spawn(command(&[], &[("PORT", "0")]), 1);
    assert!(server.stderr().iter().any(|line| line.contains("listening on http://0.0.0.0:")));
    server.ask(get("/health")).expect(200);
}

// contract §12.1
#[test]
fn a_flag_takes_precedence_over_its_variable() {
    let env = [("CHAT_MESSAGE_BURST", "1"), ("CHAT_MESSAGE_RATE", "1"), ("PORT", "1")];
    let by_env = Server::start_with_env(&[], &env);
    let (_, mut ana, _bob) = by_env.room_of_two();
    ana.send([chat("one"), chat("two")].concat());
    ana.expect_chat("ana", "one");
    ana.expect_refused("rate_limited");
    let by_flag = Server::start_with_env(&["--message-burst", "2"], &env);
    let (_, mut ana, _bob) = by_flag.room_of_two();
    ana.send([chat("one"), chat("two"), chat("three")].concat());
    ana.expect_chat("ana", "one");
    ana.expect_chat("ana", "two");
    ana.expect_refused("rate_limited");
}

// contract §12.1
#[test]
fn chat_listen_sets_the_listener() {
    let server = Server::spawn(command(&[], &[("CHAT_LISTEN", "127.0.0.1:0")]), 1);
    server.ask(get("/health")).expect(200);
}

// Values.

// contract §12.2
#[test]
fn durations_sizes_and_networks_are_accepted_in_every_documented_form() {
    let good = [
        ["--room-ttl=90", "--outbox=65536"],
        ["--room-ttl=90s", "--outbox=64K"],
        ["--room-ttl=2m", "--outbox=64M"],
        ["--room-ttl=24h", "--outbox=1M"],
        ["--leave-grace=0s", "--message-rate=0"],
        ["--trusted-proxy=10.0.0.0/8", "--trusted-proxy=2001:db8::/32"],
        ["--trusted-proxy=::1", "--address-connections=0"],
    ];
    for flags in good {
        Server::start(&flags).ask(get("/health")).expect(200);
    }
}

// contract §12.3 §12.5 §12.8
#[test]
fn a_bad_value_is_one_line_on_stderr_and_exit_code_2() {
    let bad: [&[&str]; 24] = [
        &["--nope"],
        &["-x"],
        &["chat"],
        &["--room-ttl"],
        &["--room-ttl", ""],
        &["--room-ttl", "soon"],
        &["--room-ttl", "-1"],
        &["--room-ttl", "5 parsecs"],
        &["--session-ttl", "99999999999999999999h"],
        &["--history", "many"],
        &["--message-rate", "x"],
        &["--outbox", "12X"],
        &["--outbox", "K"],
        &["--max-rooms", "-5"],
        &["--max-sessions", "1.5"],
        &["--listen", "nowhere.example:80"],
        &["--listen", "127.0.0.1"],
        &["--listen", "127.0.0.1:99999"],
        &["--listen", "::1:80x"],
        &["--listen", "unix:"],
        &["--trusted-proxy", "300.1.1.1"],
        &["--trusted-proxy", "10.0.0.0/33"],
        &["--trusted-proxy", "proxy.example"],
        &["--log", "loud"],
    ];
    let one_line = |flags: &[&str], env: &[(&str, &str)]| {
        let ended = run(flags, env);
        assert_eq!(ended.code, Some(2), "{flags:?} {env:?}: {ended:?}");
        let lines: Vec<&str> = ended.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{flags:?} {env:?}: {ended:?}");
        assert!(lines[0].len() > 10, "{flags:?} {env:?}: {ended:?}");
    };
    for flags in bad {
        one_line(flags, &[]);
    }
    for variable in [("CHAT_ROOM_TTL", "soon"), ("PORT", "http"), ("CHAT_LOG", "loud")] {
        one_line(&[], &[variable]);
    }
}

/// A newcomer whose port 8000 was taken once read no more than the system's own words.
#[test]
fn a_port_in_use_is_reported_with_its_address_and_the_flag_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = taken.local_addr().expect("an address").to_string();
    for flag in ["--listen", "--metrics-listen", "--admin-listen"] {
        let other = if flag == "--listen" { "--metrics-listen" } else { "--listen" };
        let ended = run(&[other, "127.0.0.1:0", flag, &address], &[]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let line =
            format!("cannot listen on {address}: it is in use; choose another with {flag}\n");
        assert_eq!(ended.stderr, line);
    }
}

// contract §12.4
#[test]
fn help_lists_every_flag_with_its_default() {
    let ended = run(&["--help"], &[]);
    assert_eq!(ended.code, Some(0));
    for flag in FLAGS {
        assert!(ended.stdout.contains(flag), "{flag} in {}", ended.stdout);
    }
    for default in ["127.0.0.1:8000", "24h", "120s", "10m", "3s", "1000", "100000", "256K", "info"]
    {
        assert!(ended.stdout.contains(default), "{default} in {}", ended.stdout);
    }
}

// `check`.

#[test]
fn check_prints_the_settings_and_opens_no_listener() {
    let path = socket_path("check");
    let listen = format!("--listen={}", shown(&path));
    // The port is in use, which would be an error for a server.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = format!("--metrics-listen={}", taken.local_addr().expect("an address"));
    let flags = ["check", &listen, &port, "--room-ttl=90", "--max-memory=64M", "--outbox", "1M"];
    let env = [("CHAT_HISTORY", "7"), ("CHAT_ROOM_TTL", "1h")];
    let ended = run(&flags, &env);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert!(!path.exists(), "it has opened a listener");
    let (settings, machine) = ended.stdout.split_once("\n\n").expect("two parts");
    for line in [&listen, &port, "--room-ttl=90", "--max-memory=64M", "--outbox=1M", "--history=7"]
    {
        assert!(settings.lines().any(|one| one == line), "{line}: {settings}");
    }
    assert!(machine.starts_with("descriptors: "), "{machine}");
    assert!(machine.contains(" connections\nmemory: "), "{machine}");

    // The printed settings give the same settings in another environment.
    let mut again: Vec<&str> = settings.lines().collect();
    again.push("check");
    let ended = run(&again, &[("PORT", "1"), ("CHAT_LOG", "off")]);
    assert_eq!((ended.code, ended.stdout.split_once("\n\n")), (Some(0), Some((settings, machine))));
}

/// The rows of the guide's table of machines: their flags are accepted, and leave descriptors for the server itself.
#[test]
fn the_guides_flags_for_machines_are_accepted() {
    let guide = include_str!("../../src/guide/operating.md");
    let (_, rest) = guide.split_once("\n| machine | flags |").expect("the table");
    let (table, _) = rest.split_once("\n\n").expect("its end");
    let mut count = 0;
    for row in table.lines().skip(2) {
        let (_, rest) = row.split_once("| `").expect("flags");
        let (flags, rest) = rest.split_once("` | ").expect("descriptors");
        let descriptors: usize = rest.trim_end_matches(" |").parse().expect("a number");
        let flags: Vec<&str> = flags.split(' ').collect();
        let ended = run(&[&["check"], &flags[..]].concat(), &[]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        for flag in flags.chunks(2) {
            let line = flag.join("=");
            assert!(ended.stdout.lines().any(|one| one == line), "{line}: {}", ended.stdout);
        }
        let place = flags.iter().position(|flag| *flag == "--max-connections").expect("the flag");
        let connections: usize = flags[place + 1].parse().expect("a number");
        assert!(connections + 50 <= descriptors, "{row}");
        count += 1;
    }
    assert_eq!(count, 3);
}

#[test]
fn check_warns_of_limits_that_the_machine_does_not_allow() {
    let ended = run(&["check", "--max-memory=1024G", "--max-connections=10000000"], &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let warnings: Vec<&str> =
        ended.stdout.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert!(warnings.iter().any(|line| line.contains("--max-connections 10000000: ")), "{ended:?}");
    #[cfg(target_os = "linux")]
    let memory = "warning: 4/3 of --max-memory is 1398102 MiB, more than there is";
    #[cfg(target_os = "linux")]
    assert!(warnings.contains(&memory), "{ended:?}");
}

#[test]
fn check_prints_how_many_connections_the_descriptor_limit_allows() {
    let mut shell = limited(64);
    let output = shell.args(["check", "--listen=127.0.0.1:0"]).output().expect("it runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = "descriptors: 64 soft, 64 hard: 38 connections";
    assert!(stdout.lines().any(|one| one == line), "{stdout}");
}

#[test]
fn check_refuses_bad_flags_with_the_same_words_as_the_server() {
    type Case = (&'static [&'static str], &'static [(&'static str, &'static str)]);
    const CASES: [Case; 5] = [
        (&["--room-ttl", "soon"], &[]),
        (&["--nope"], &[]),
        (&["--listen"], &[]),
        (&[], &[("PORT", "http")]),
        (&[], &[("CHAT_MAX_MEMORY", "1")]),
    ];
    for (flags, env) in CASES {
        let (served, checked) = (run(flags, env), run(&[&["check"], flags].concat(), env));
        assert_eq!((checked.code, checked.stdout.as_str()), (Some(2), ""), "{checked:?}");
        assert_eq!((served.code, served.stderr), (Some(2), checked.stderr));
    }
}

// The log.

// contract §12.7 §12.8
#[test]
fn every_log_level_reports_the_listeners() {
    for level in ["off", "error", "warn", "info", "debug"] {
        // `start` waits for the line.
        Server::start(&["--log", level]).ask(get("/health")).expect(200);
    }
}

// contract §1.12
#[test]
fn the_log_contains_no_texts_names_sessions_or_queries() {
    for level in ["info", "debug"] {
        let mut server = Server::start(&[
            "--log",
            level,
            "--leave-grace",
            "100ms",
            "--message-burst",
            "3",
            "--max-sessions",
            "3",
        ]);
        let secrets = ["Zaphod", "Trillian", "Slartibartfast", "marzipan", "gooseberry"];
        let zaphod = server.session("Zaphod");
        let room = server.room(&zaphod);
        let mut first = server.enter_as(&room, "Zaphod", &zaphod);
        let mut second = server.enter(&room, "Trillian");
        first.expect_join("Trillian");
        first.chat("marzipan");
        first.expect_chat("Zaphod", "marzipan");
        second.expect_chat("Zaphod", "marzipan");
        first.text("marzipan");
        first.expect_refused("bad_json");
        for _ in 0..4 {
            first.chat("marzipan");
        }
        let ports = [first.stream().port(), second.stream().port()];
        // Requests with a secret query, some of which fail.
        let secret_query = format!("?session_id={zaphod}&gooseberry=1");
        server.ask(get(&format!("/nope{secret_query}"))).expect(404);
        server.ask(get(&format!("/health{secret_query}"))).expect(200);
        server.ask(get(&format!("/rooms/{room}{secret_query}"))).expect(200);
        server.ask(get(&format!("/ws/{room}{secret_query}"))).expect(426);
        server.ask(post("/sessions").body("gooseberry")).expect(422);
        server.ask(get("/sessions/me").session("gooseberry")).expect(401);
        server.session("Slartibartfast");
        server.ask(post("/sessions").json(&json!({"username": "Slartibartfast"}))).expect(503);
        let mut broken = server.http();
        broken.send(format!("GET /{secret_query} gooseberry\r\n\r\n"));
        broken.answer().expect(400);
        // Sockets that end in various ways.
        second.send(text([0xFF]));
        second.until_end();
        server.ask(delete("/sessions/me").session(&zaphod)).expect(200);
        first.until_end();
        drop((first, second, broken));
        server.terminate();
        assert!(server.wait().success());
        let stderr = server.stderr_to_the_end().join("\n");
        for secret in secrets {
            let (log, secret) = (stderr.to_lowercase(), secret.to_lowercase());
            assert!(!log.contains(&secret), "{secret} in the log:\n{stderr}");
        }
        for secret in [zaphod.as_str(), "session_id="] {
            assert!(!stderr.contains(secret), "a session id or a query in the log:\n{stderr}");
        }
        if level == "info" {
            for port in ports {
                let address = format!("127.0.0.1:{port}");
                assert!(!stderr.contains(&address), "a peer's address at info:\n{stderr}");
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_server_does_not_wake_up() {
    let server = Server::start(&["--ping-interval", "1h"]);
    let (room, ana, bob) = server.room_of_two();
    let more: Vec<_> = (0..20).map(|n| server.enter(&room, &format!("guest {n}"))).collect();
    // At first, connections of this test may still be closing.
    server.wait_until_idle();
    drop((ana, bob, more));
}

/// Regression: a full stderr pipe blocked the event loop.
#[test]
fn a_log_that_is_not_read_does_not_block_the_server() {
    let mut command = command(&["--listen", "127.0.0.1:0", "--log", "debug"], &[]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    log.read_line(&mut line).expect("a line");
    let address = line.trim().rsplit_once("http://").expect("an address").1.to_owned();
    // Each connection logs two lines: a pipe of 64 KiB is full long before the last connection.
    for _ in 0..2000 {
        let mut stream = TcpStream::connect(&address).expect("it accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.write_all(b"GET /ping HTTP/1.0\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    // When the log is read again, the next line to log comes after a line that counts the dropped ones.
    let reading = thread::spawn(move || {
        log.lines().map_while(Result::ok).find(|line| line.contains(" lines were dropped"))
    });
    let deadline = Instant::now() + DEADLINE;
    while !reading.is_finished() && Instant::now() < deadline {
        drop(TcpStream::connect(&address).expect("it accepts"));
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let line = reading.join().unwrap().expect("a line about dropped lines");
    assert!(line.starts_with("warn: "), "{line}");
}
