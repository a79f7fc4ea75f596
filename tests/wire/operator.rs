//! What an operator relies on at the start and behind proxies: addresses, variables, signals, forwarded addresses,
//! the server's own origin.

#[cfg(target_os = "linux")]
use std::io::{BufRead, BufReader};
use std::net::{Ipv6Addr, TcpListener};
#[cfg(target_os = "linux")]
use std::process::{Command, Stdio};

use rustix::process::Signal;
#[cfg(target_os = "linux")]
use rustix::process::{Pid, kill_process};
use serde_json::json;

use crate::client::{Answer, Http, Request, get, post, upgrade};
use crate::server::{Address, Server, command, run, socket_path};

// Forwarded addresses.

/// Creates a session; the burst of an address is sixty.
fn create(fields: &[(&str, &str)]) -> Request {
    let create = post("/sessions").json(&json!({"username": "ana"}));
    fields.iter().fold(create, |request, (name, value)| request.field(name, value))
}

/// Asserts that requests with these fields count against some address.
#[track_caller]
fn expect_limited(server: &Server, fields: &[(&str, &str)]) {
    let answers = server.http().pipeline(&vec![create(fields); 65]);
    assert!(answers[..60].iter().all(|answer| answer.status == 201), "{fields:?}");
    assert!(answers[60..].iter().any(|answer| answer.status == 429), "{fields:?}");
}

// Regression: an entry that was no address exempted the request from every limit.
// contract §12.27
#[test]
fn what_a_proxy_forwards_counts_against_an_address_whatever_it_is() {
    for value in ["unknown", "\"203.0.113.3\"", "fe80::1%eth0", "_hidden, unix:"] {
        let server = Server::start(&["--trusted-proxy", "127.0.0.1", "--session-rate", "1"]);
        expect_limited(&server, &[("X-Forwarded-For", value)]);
    }
}

// contract §12.26
#[test]
fn forwarded_is_believed_where_x_forwarded_for_is_missing() {
    let server = Server::start(&["--trusted-proxy", "127.0.0.1", "--session-rate", "1"]);
    expect_limited(&server, &[("Forwarded", "for=198.51.100.1, for=\"[2001:db8::1]:8\"")]);
    // The same address, in the other field.
    let same = create(&[("X-Forwarded-For", "2001:db8::2"), ("Forwarded", "for=203.0.113.9")]);
    let answers = server.http().pipeline(&vec![same; 5]);
    assert!(answers.iter().any(|answer| answer.status == 429), "{answers:?}");
    server.ask(create(&[("Forwarded", "for=198.51.100.1")])).expect(201);
}

fn count(server: &mut Server, part: &str) -> usize {
    server.terminate();
    assert!(server.wait().success());
    server.stderr_to_the_end().iter().filter(|line| line.contains(part)).count()
}

// contract §12.28
#[test]
fn a_peer_that_forwards_and_is_not_trusted_is_one_warning() {
    for field in ["X-Forwarded-For", "Forwarded"] {
        let mut server = Server::start(&[]);
        for _ in 0..3 {
            server.ask(get("/ping").field(field, "for=203.0.113.7")).expect(200);
        }
        assert_eq!(count(&mut server, "warn: 127.0.0.1 sends"), 1, "{field}");
    }
    let mut server = Server::start(&[]);
    server.ask(get("/ping")).expect(200);
    assert_eq!(count(&mut server, "warn"), 0);
}

// contract §12.28
#[test]
fn a_balancer_that_is_not_trusted_is_one_warning() {
    let flags = ["--listen", "127.0.0.1:0", "--listen", "proxy:127.0.0.1:0"];
    let mut server = Server::spawn(command(&flags, &[]), 2);
    for _ in 0..2 {
        let mut http = Http::connect(&server.addresses[1]);
        http.send("PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n");
        http.ask(&get("/ping")).expect(200);
    }
    assert_eq!(count(&mut server, "warn: 127.0.0.1 sends a PROXY header"), 1);
}

// The server's own origin.

const PAGE: &str = "https://page.example";

/// A request with this `Host` from a page of this origin.
fn from_page(request: Request, host: &str, origin: &str) -> Request {
    request.field("Host", host).field("Origin", origin)
}

fn is_allowed(answer: &Answer) -> bool {
    answer.field("Access-Control-Allow-Origin").is_some()
}

// contract §1.23 §1.36 §1.37
#[test]
fn the_servers_own_page_is_allowed_by_address_and_by_a_listed_name() {
    let server = Server::start(&["--cors-origin", PAGE]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let target = format!("/ws/{room}?session_id={ana}");
    let own = server.host();
    let port = own.rsplit_once(':').unwrap().1;
    let allowed = [
        (own.clone(), format!("http://{own}")),
        (format!("localhost:{port}"), format!("http://localhost:{port}")),
        // nginx passes on the host without the port.
        ("127.0.0.1".to_owned(), "http://127.0.0.1:8080".to_owned()),
        ("page.example".to_owned(), "https://page.example:8443".to_owned()),
        ("page.example:8080".to_owned(), "http://page.example:8080".to_owned()),
        ("page.example:80".to_owned(), "http://page.example".to_owned()),
    ];
    for (host, origin) in &allowed {
        let answer = server.ask(from_page(get("/health"), host, origin)).expect(200);
        assert!(is_allowed(&answer), "{host} {origin}");
        drop(server.upgrade(from_page(upgrade(&target), host, origin)));
    }
    for (host, origin) in [
        ("page.example:8080", "http://page.example:8081"),
        ("page.example:8080", "http://page.example"),
        ("chat.example", "https://chat.example"),
        (own.as_str(), "https://chat.example"),
    ] {
        let answer = server.ask(from_page(get("/health"), host, origin)).expect(200);
        assert!(!is_allowed(&answer), "{host} {origin}");
        server.ask(from_page(upgrade(&target), host, origin)).refused(403, "bad_origin");
    }
}

// Regression: a page of another site passed after its name had been made to resolve to the server.
// contract §1.37 §1.38
#[test]
fn a_rebound_name_is_refused_and_the_log_names_the_flag_once() {
    let mut server = Server::start(&["--cors-origin", PAGE]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let target = format!("/ws/{room}?session_id={ana}");
    let (host, origin) = ("evil.example:8000", "http://evil.example:8000");
    server.ask(from_page(upgrade(&target), host, origin)).refused(403, "bad_origin");
    let absolute = upgrade(&format!("http://{host}{target}"));
    let own = server.host();
    server.ask(from_page(absolute, &own, origin)).refused(403, "bad_origin");
    server.ask(from_page(upgrade(&target), host, "http://other.example:8000"));
    assert_eq!(count(&mut server, "add --cors-origin http://evil.example:8000"), 1);
}

// Listeners.

// contract §12.7 §12.29
#[test]
fn localhost_listens_on_both_loopback_addresses_with_one_port() {
    let has_both = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let server =
        Server::spawn(command(&["--listen", "localhost:0"], &[]), 1 + usize::from(has_both));
    let ports = server.addresses.iter().map(|address| {
        Http::connect(address).ask(&get("/ping")).expect(200);
        let Address::Tcp(address) = address else { panic!("{address:?}") };
        assert!(address.ip().is_loopback(), "{address}");
        address.port()
    });
    let mut ports: Vec<u16> = ports.collect();
    ports.dedup();
    assert_eq!(ports.len(), 1, "{:?}", server.addresses);
}

// contract §12.30
#[test]
fn a_folder_or_file_at_the_path_of_a_socket_is_named_in_one_line() {
    let path = socket_path("folder");
    std::fs::create_dir(&path).unwrap();
    let ended = run(&["--listen", &format!("unix:{}", path.display())], &[]);
    let line =
        format!("cannot listen on unix:{}: there is a folder at this path\n", path.display());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), line.as_str()));
    std::fs::remove_dir(&path).unwrap();
}

#[test]
fn a_proxy_header_before_tls_is_refused_with_the_reason() {
    let ended = run(&["--listen", "proxy:tls:127.0.0.1:0"], &[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("a PROXY header precedes TLS"), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}

// Settings without effect.

// contract §12.31 §12.32
#[test]
fn settings_without_effect_are_one_warning_each() {
    let env = [("CHAT_ROM_TTL", "5s"), ("CHAT_HISTORY", "7")];
    let mut server = Server::start_with_env(&["--tls-cert", "/nowhere"], &env);
    server.ask(get("/ping")).expect(200);
    server.terminate();
    assert!(server.wait().success());
    let stderr = server.stderr_to_the_end();
    let warnings: Vec<&String> = stderr.iter().filter(|line| line.starts_with("warn: ")).collect();
    assert_eq!(
        warnings,
        [
            "warn: the variable \"CHAT_ROM_TTL\" is unknown; is CHAT_ROOM_TTL meant?",
            "warn: --tls-cert has no effect without a tls: address",
        ]
    );
    let checked = run(&["check"], &env[..1]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let warning = "\nwarning: the variable \"CHAT_ROM_TTL\" is unknown; is CHAT_ROOM_TTL meant?\n";
    assert!(checked.stdout.contains(warning), "{checked:?}");
}

// Signals.

// Regression: each of these signals killed the server, without 1001 and without the state.
// contract §12.33
#[test]
fn signals_without_a_meaning_do_nothing() {
    let mut server = Server::start(&[]);
    let (_, mut ana, mut bob) = server.room_of_two();
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2] {
        server.signal(signal);
        ana.chat("still here");
        bob.expect_chat("ana", "still here");
        ana.expect_chat("ana", "still here");
    }
    assert!(!server.has_ended());
}

// contract §12.33
#[cfg(target_os = "linux")]
#[test]
fn a_hangup_ends_a_server_whose_stderr_is_a_terminal() {
    let program = command(&["--listen", "127.0.0.1:0"], &[]);
    let words = std::iter::once(program.get_program()).chain(program.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    // `script` runs a command in a terminal of its own.
    let inner = format!("echo pid $$; exec {}", words.join(" "));
    let script = Command::new("script")
        .args(["-qefc", &inner, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut script) = script else {
        assert!(std::env::var_os("REQUIRE_ALL").is_none(), "there is no program `script`");
        return eprintln!("skipped: there is no program `script`");
    };
    let mut lines = BufReader::new(script.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut after = |start: &str| {
        let rest = lines.find_map(|line| Some(line.trim().strip_prefix(start)?.to_owned()));
        rest.unwrap_or_else(|| panic!("no line {start}"))
    };
    let pid: i32 = after("pid ").parse().unwrap();
    let address = Address::Tcp(after("listening on http://").parse().unwrap());
    let mut http = Http::connect(&address);
    http.ask(&get("/ping")).expect(200);
    kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
    assert!(after("info: stopped: ").starts_with("SIGHUP"));
    http.expect_end();
    assert_eq!(script.wait().unwrap().code(), Some(0));
}
