//! nginx, Caddy and HAProxy in front of the server, set up as the guide's page on operating says.
//!
//! A recipe is taken from there word for word, except for addresses and timeouts: under `SLOW_TESTS=1` a silence of
//! five seconds stands for one of a minute and a half.

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

/// How long a proxy waits in silence, where the guide says a minute; the server pings more often.
const TIMEOUT: &str = "2s";
const FLAGS: [&str; 6] =
    ["--trusted-proxy", "127.0.0.1", "--ping-interval", "500ms", "--session-rate", "1"];

/// A proxy that runs, and its files.
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
    /// Runs `program` with the guide's recipe for `language` in front of `back`. `configure` makes
    /// a whole configuration of the recipe, and the command that reads it, in a directory.
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

/// Where daemons lie; not every user's `PATH` has it.
fn in_sbin(program: &str) -> Option<PathBuf> {
    Some(Path::new("/usr/sbin").join(program)).filter(|file| file.is_file())
}

/// Nobody listens there; proxies can't be asked which port they were given.
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
    assert_ne!(ours, recipe, "where it listens");
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

/// REST, the page with its parts, sockets, and a silence, below `prefix`.
fn goes_all_the_way(front: &Front, prefix: &str) {
    let mut http = front.http();
    // Of what it may compress, a proxy may not know the length.
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
        answer.expect(201).json()["session_id"].as_str().expect("an id").to_owned()
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
    let silence = Duration::from_secs(if env::var_os("SLOW_TESTS").is_some() { 5 } else { 0 });
    let began = Instant::now();
    while began.elapsed() < silence {
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

/// The server counts whom the proxy names, and not the proxy, which is on loopback and has no rate.
fn says_who_calls(front: &Front, prefix: &str) {
    let mut http = front.http();
    let open = post(&format!("{prefix}/sessions")).json(&json!({"username": "ana"}));
    let answers: Vec<_> = (0..70).map(|_| http.ask(&open).status).collect();
    assert!(answers.contains(&429), "{answers:?}");
}

#[test]
fn nginx_as_the_guide_says() {
    let server = Server::start(&FLAGS);
    let Some(front) = nginx(&server.host()) else { return };
    goes_all_the_way(&front, "/chat");
    says_who_calls(&front, "/chat");
}

#[test]
fn nginx_through_a_unix_socket() {
    let path = env::temp_dir().join(format!("behind-nginx-{}.sock", std::process::id()));
    let listen = format!("unix:{}", path.display());
    let server =
        Server::spawn(server::command(&[&FLAGS[..], &["--listen", &listen]].concat(), &[]), 1);
    let Some(front) = nginx(&format!("{listen}:")) else { return };
    goes_all_the_way(&front, "/chat");
    says_who_calls(&front, "/chat");
    drop(server);
}

#[test]
fn caddy_as_the_guide_says() {
    let server = Server::start(&FLAGS);
    let Some(front) = caddy(&server.host()) else { return };
    goes_all_the_way(&front, "/chat");
    says_who_calls(&front, "/chat");
    let answer = front.http().ask(&get("/chat")).expect(302);
    assert_eq!(answer.field("Location"), Some("/chat/"));
}

#[test]
fn haproxy_as_the_guide_says() {
    let server = Server::start(&FLAGS);
    let Some(front) = haproxy("haproxy", &server.host()) else { return };
    goes_all_the_way(&front, "/chat");
    says_who_calls(&front, "/chat");
}

/// By the PROXY protocol. (Whom it names here is on loopback, too; `tests/wire/balanced.rs` has others.)
#[test]
fn haproxy_that_balances_tcp() {
    let listen = ["--listen", "proxy:127.0.0.1:0"];
    let server = Server::spawn(server::command(&[&FLAGS[..], &listen].concat(), &[]), 1);
    let Some(front) = haproxy("haproxy-tcp", &server.host()) else { return };
    goes_all_the_way(&front, "");
}
