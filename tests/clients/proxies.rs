//! nginx, Caddy and HAProxy in front of the server, with the configurations of the guide's page on operating.
//!
//! The tests take each configuration from that page and replace only addresses and timeouts: under `SLOW_TESTS=1`,
//! five seconds without messages stand for a minute and a half.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Http, get, post, upgrade};
use crate::program::{Running, command, find, needed};
use crate::server::{self, Address, Server, wait_until};

const OPERATING: &str = include_str!("../../src/guide/operating.md");

/// The idle timeout of the proxies, where the guide says a minute. The server pings more often.
const TIMEOUT: &str = "2s";
const FLAGS: [&str; 6] =
    ["--trusted-proxy", "127.0.0.1", "--ping-interval", "500ms", "--session-rate", "1"];

/// A running proxy and its files.
struct Front {
    address: Address,
    directory: PathBuf,
    _program: Running,
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Front {
    /// Runs `program` in front of `back` with the guide's configuration in the code block for `language`. `configure`
    /// writes the complete configuration into a directory and adds the arguments to the command.
    fn start(
        program: &str,
        language: &str,
        back: &str,
        configure: impl FnOnce(&mut Command, &Path, String),
    ) -> Option<Front> {
        let program = needed(program, find(&[program]).or_else(|| in_sbin(program)))?;
        let front = free_address();
        let directory = env::temp_dir().join(format!("front-{}", front.port()));
        fs::create_dir_all(&directory).expect("a directory");
        let mut command = command(program);
        configure(&mut command, &directory, recipe(language, front, back));
        let program = Running::start(&mut command);
        wait_until("the proxy listens", || TcpStream::connect(front).is_ok());
        Some(Front { address: Address::Tcp(front), directory, _program: program })
    }

    fn http(&self) -> Http {
        Http::connect(&self.address)
    }
}

/// A daemon in `/usr/sbin`, which is not in the `PATH` of every user.
fn in_sbin(program: &str) -> Option<PathBuf> {
    Some(Path::new("/usr/sbin").join(program)).filter(|file| file.is_file())
}

/// An address with a free port. Proxies do not report which port they listen on if that is 0.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

/// The guide's code block in `language`, with the test's addresses.
fn recipe(language: &str, front: SocketAddr, back: &str) -> String {
    let (_, rest) = OPERATING.split_once(&format!("```{language}\n")).expect("a recipe");
    let (recipe, _) = rest.split_once("```").expect("its end");
    assert!(recipe.contains("127.0.0.1:8000"), "{recipe}");
    let fronts = [
        ("listen 80;", format!("listen {front};")),
        ("bind :80\n", format!("bind {front}\n")),
        ("chat.example {\n", format!("http://{front} {{\n")),
    ];
    let recipe = recipe.replace("127.0.0.1:8000", back).replace("60s", TIMEOUT);
    let ours =
        fronts.iter().fold(recipe.clone(), |text, (theirs, ours)| text.replace(theirs, ours));
    assert_ne!(ours, recipe, "the listener's address");
    ours
}

fn nginx(back: &str) -> Option<Front> {
    Front::start("nginx", "nginx", back, |command, directory, recipe| {
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String =
            kinds.iter().map(|kind| format!("{kind}_temp_path {kind};\n")).collect();
        let all = format!(
            "user root; daemon off; master_process off; pid pid; error_log stderr;\n\
             events {{ }}\nhttp {{\naccess_log off;\n{temporary}{recipe}}}\n"
        );
        fs::write(directory.join("nginx.conf"), all).expect("a file");
        command.arg("-p").arg(directory).args(["-c", "nginx.conf", "-e", "stderr"]);
    })
}

fn caddy(back: &str) -> Option<Front> {
    Front::start("caddy", "caddy", back, |command, directory, recipe| {
        let all = format!("{{\nadmin off\n}}\n{recipe}");
        fs::write(directory.join("Caddyfile"), all).expect("a file");
        command
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(directory.join("Caddyfile"));
        for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env(variable, directory);
        }
    })
}

fn haproxy(language: &str, back: &str) -> Option<Front> {
    Front::start("haproxy", language, back, |command, directory, recipe| {
        let file = directory.join("haproxy.cfg");
        fs::write(&file, format!("global\nmaxconn 100\n{recipe}")).expect("a file");
        command.arg("-db").arg("-f").arg(file);
    })
}

/// Asserts that REST, the page with its parts, sockets, and idle sockets work below `prefix`.
fn expect_all_to_work(front: &Front, prefix: &str) {
    let mut http = front.http();
    // A proxy that compresses a response may send it without a length, which the client does not support.
    let file = |path: &str| get(&format!("{prefix}/{path}")).field("Accept-Encoding", "identity");
    let page = http.ask(&file("")).expect(200);
    assert!(page.field("Content-Type").is_some_and(|kind| kind.starts_with("text/html")));
    let text = page.text();
    let parts: Vec<&str> =
        text.split("=\"page/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(parts.len() >= 2, "{text}");
    for part in parts {
        http.ask(&file(&format!("page/{part}"))).expect(200);
    }
    let open = |http: &mut Http, name: &str| {
        let answer =
            http.ask(&post(&format!("{prefix}/sessions")).json(&json!({"username": name})));
        answer.expect(201).string("session_id")
    };
    let (ana, bob) = (open(&mut http, "ana"), open(&mut http, "bob"));
    let room = http.ask(&post(&format!("{prefix}/rooms")).session(&ana)).expect(201).json();
    let room = room["room_id"].as_str().expect("an id");
    let enter = |session: &str| {
        front.http().upgrade(&upgrade(&format!("{prefix}/ws/{room}?session_id={session}")))
    };
    let mut first = enter(&ana);
    first.expect_join("ana");
    let mut second = enter(&bob);
    for ws in [&mut first, &mut second] {
        ws.expect_join("bob");
    }
    let idle = Duration::from_secs(if server::is_slow() { 5 } else { 0 });
    let began = Instant::now();
    while began.elapsed() < idle {
        for ws in [&mut first, &mut second] {
            let payload = ws.expect_ping();
            ws.pong(payload);
        }
    }
    first.chat("still there?");
    for ws in [&mut first, &mut second] {
        while ws.event_with_pongs()["message"] != "still there?" {}
    }
    second.close();
}

/// Asserts that the forwarded address counts. The proxy itself is on loopback, which has no rate.
fn expect_forwarded_address(front: &Front, prefix: &str) {
    let mut http = front.http();
    let open = post(&format!("{prefix}/sessions")).json(&json!({"username": "ana"}));
    let answers: Vec<_> = (0..70).map(|_| http.ask(&open).status).collect();
    assert!(answers.contains(&429), "{answers:?}");
}

#[test]
fn nginx_works_with_the_guides_configuration() {
    let server = Server::start(&FLAGS);
    let Some(front) = nginx(&server.host()) else { return };
    expect_all_to_work(&front, "/chat");
    expect_forwarded_address(&front, "/chat");
}

#[test]
fn nginx_works_through_a_unix_socket() {
    let path = env::temp_dir().join(format!("behind-nginx-{}.sock", std::process::id()));
    let listen = format!("unix:{}", path.display());
    let server =
        Server::spawn(server::command(&[&FLAGS[..], &["--listen", &listen]].concat(), &[]), 1);
    let Some(front) = nginx(&format!("{listen}:")) else { return };
    expect_all_to_work(&front, "/chat");
    expect_forwarded_address(&front, "/chat");
    drop(server);
}

#[test]
fn caddy_works_with_the_guides_configuration() {
    let server = Server::start(&FLAGS);
    let Some(front) = caddy(&server.host()) else { return };
    expect_all_to_work(&front, "/chat");
    expect_forwarded_address(&front, "/chat");
    let answer = front.http().ask(&get("/chat")).expect(302);
    assert_eq!(answer.field("Location"), Some("/chat/"));
}

#[test]
fn haproxy_works_with_the_guides_configuration() {
    let server = Server::start(&FLAGS);
    let Some(front) = haproxy("haproxy", &server.host()) else { return };
    expect_all_to_work(&front, "/chat");
    expect_forwarded_address(&front, "/chat");
}

/// With the PROXY protocol. The client is on loopback here; `tests/wire/balanced.rs` tests other addresses.
#[test]
fn haproxy_works_as_a_tcp_balancer() {
    let listen = ["--listen", "proxy:127.0.0.1:0"];
    let server = Server::spawn(server::command(&[&FLAGS[..], &listen].concat(), &[]), 1);
    let Some(front) = haproxy("haproxy-tcp", &server.host()) else { return };
    expect_all_to_work(&front, "");
}
