//! The client module `/client.js` in Node, Deno and Bun. The checks are in `module.mjs`; this file runs them against the
//! server, and through proxies that cut connections or refuse upgrades. TypeScript compiles `usage.ts` with `/client.d.ts`.
//!
//! The four programs are packages of npm (`npm ci` in this folder). The Node of this machine runs the checks as well.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::client::{delete, get};
use crate::program::{PATIENT, Running, command, find, needed, run};
use crate::python;
use crate::server::{Server, wait_until};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

const REFUSAL: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What a proxy does to the connections of a room. Other requests pass.
#[derive(Clone, Copy)]
enum Fault {
    /// Cuts the connection after some bytes from the server: few, so that a test breaks several connections, but more
    /// for each, so that the history since the last one passes in the end.
    Cut,
    /// Answers an upgrade with 403, as a proxy does that knows no WebSocket.
    RefuseUpgrades,
    /// Does that, and cuts event streams.
    CutStreams,
}

/// Serves a proxy to `server` until the test ends, and returns its address.
fn proxy(server: SocketAddr, fault: Fault) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for (n, near) in listener.incoming().map_while(Result::ok).enumerate() {
            thread::spawn(move || pass(near, server, fault, n));
        }
    });
    format!("http://{address}/")
}

fn pass(mut near: TcpStream, server: SocketAddr, fault: Fault, n: usize) -> io::Result<()> {
    let far = TcpStream::connect(server)?;
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    let (reply, mut sent, replies) = (near.try_clone()?, far.try_clone()?, left.clone());
    thread::spawn(move || pass_replies(far, reply, &replies));
    let mut buffer = [0; 16384];
    while let Ok(count @ 1..) = near.read(&mut buffer) {
        // An upgrade may come on a connection that has carried other requests.
        let head = String::from_utf8_lossy(&buffer[..count]);
        let target =
            head.split(' ').nth(1).filter(|_| head.starts_with("GET ")).unwrap_or_default();
        let is_stream = target.starts_with("/rooms/") && target.contains("/events");
        match (fault, target.starts_with("/ws/")) {
            (Fault::RefuseUpgrades | Fault::CutStreams, true) => {
                near.write_all(REFUSAL)?;
                break;
            }
            (Fault::Cut, true) => left.store(1500 + n * 151, Ordering::SeqCst),
            (Fault::CutStreams, false) if is_stream => left.store(1500 + n * 151, Ordering::SeqCst),
            _ => {}
        }
        sent.write_all(&buffer[..count])?;
    }
    let _ = sent.shutdown(Shutdown::Both);
    Ok(())
}

/// Passes on what the server sends, as long as bytes are left.
fn pass_replies(mut far: TcpStream, mut near: TcpStream, left: &AtomicUsize) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = far.read(&mut buffer) {
        let most = left.load(Ordering::SeqCst).min(count);
        if near.write_all(&buffer[..most]).is_err() || most < count {
            break;
        }
        let _ = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            (left < usize::MAX).then(|| left.saturating_sub(most))
        });
    }
    let _ = far.shutdown(Shutdown::Both);
    let _ = near.shutdown(Shutdown::Both);
}

/// A program of npm in this folder.
fn package(name: &str) -> Option<PathBuf> {
    let file = Path::new(FOLDER).join("node_modules/.bin").join(name);
    needed(&format!("{name}, by `npm ci` in tests/clients"), file.exists().then_some(file))
}

/// Runs the checks with `program` and `args`.
fn expect_all_held(name: &str, program: Option<PathBuf>, args: &[&str]) {
    let Some(program) = program else { return };
    let flags = ["--leave-grace", "1h", "--message-rate", "0"];
    let admin = ["--admin-listen", "127.0.0.1:0"];
    let server = Server::start_with_metrics(&[&flags[..], &admin].concat());
    let forgetful = Server::start(&[&flags[..], &["--history", "5"]].concat());
    let address = server.host().parse().expect("an address");
    let at = |host: String| format!("http://{host}/");
    let module = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("client-{name}.mjs"));
    fs::write(&module, server.ask(get("/client.js")).expect(200).body).expect("a file");
    let mut command = command(program);
    command.args(args).arg(format!("{FOLDER}/module.mjs"));
    command.args([at(server.host()), at(server.addresses[2].host())]);
    let faults = [Fault::Cut, Fault::RefuseUpgrades, Fault::CutStreams];
    command.args(faults.map(|fault| proxy(address, fault)));
    command.arg(at(forgetful.host())).arg(module);
    let ended = run(&mut command).expect_success();
    assert!(ended.stdout().ends_with("all held\n"), "{}\n{}", ended.stdout(), ended.stderr);
}

// contract §6.19 §7.17 §8.4 §8.10 §11.9 §14.10 §15.4 §15.5
#[test]
fn the_client_module_works_in_the_node_of_this_machine() {
    let node = needed("node", find(&["node", "nodejs"]));
    expect_all_held("node", node, &["--experimental-websocket", "--no-warnings"]);
}

#[test]
fn the_client_module_works_in_node_22() {
    expect_all_held("node22", package("node"), &[]);
}

#[test]
fn the_client_module_works_in_deno() {
    expect_all_held("deno", package("deno"), &["run", "--quiet", "--allow-net", "--allow-read"]);
}

#[test]
fn the_client_module_works_in_bun() {
    expect_all_held("bun", package("bun"), &["run"]);
}

/// The options beside `--strict` take nothing from the programs that happen to be installed here.
const COMPILER: &[&str] =
    &["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom"];

#[test]
fn programs_in_typescript_compile_with_the_types_of_the_client_module() {
    let Some(compiler) = package("tsc") else { return };
    let server = Server::start(PATIENT);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("client-types");
    fs::create_dir_all(&folder).expect("a folder");
    for name in ["client.js", "client.d.ts"] {
        let body = server.ask(get(&format!("/{name}"))).expect(200).body;
        fs::write(folder.join(name), body).expect("a file");
    }
    fs::write(folder.join("package.json"), r#"{"type":"module"}"#).expect("a file");
    fs::write(folder.join("usage.ts"), include_str!("usage.ts")).expect("a file");
    let mut command = command(compiler);
    command.args(COMPILER).arg(folder.join("usage.ts"));
    let ended = run(&mut command);
    assert!(ended.status.success(), "{}{}", ended.stdout(), ended.stderr);
}

const GUIDE: &str = include_str!("../../src/guide/clients.md");

/// The guide's code block in `language`, with the server's address instead of the default one.
fn guide_block(language: &str, server: &Server) -> String {
    let (_, block) = GUIDE.split_once(&format!("\n```{language}\n")).expect("a block");
    let (block, _) = block.split_once("\n```").expect("its end");
    block.replace("localhost:8000", &server.host())
}

/// Asserts that the bot makes a room, greets newcomers, and removes a person who sends three links.
fn expect_greetings(server: &Server, mut bot: std::process::Command) {
    let _bot = Running::start(&mut bot);
    let mut room = String::new();
    wait_until("the bot is in its room", || {
        let all = server.ask(get("/rooms/all?detail=true")).expect(200).json();
        let hall = &all["rooms"][0];
        room = hall["room_id"].as_str().unwrap_or_default().to_owned();
        hall["title"] == "Hall" && hall["user_count"] == 1
    });
    let greeted = |name: &str| {
        let session = server.session(name);
        let socket = server.socket(&room, &session);
        let welcome = format!("Welcome, {name}!");
        wait_until(&welcome, || {
            server.messages(&room, &session).iter().any(|one| one["message"] == *welcome)
        });
        (session, socket)
    };
    let ((bo, _at_bo), (guest, _at_guest)) = (greeted("bo"), greeted("guest"));
    // Nothing that a visitor does ends the bot: a name that makes the welcome a message with three links, and
    // a person that cannot be removed any more.
    let _odd = greeted("://a://b://");
    let (gone, _) = greeted("gone");
    server.say(&room, &gone, "http://a http://b http://c");
    server.ask(delete(&format!("/rooms/{room}/leave")).session(&gone)).expect(200);
    let _late = greeted("late");
    server.say(&room, &bo, "http://a http://b");
    server.say(&room, &bo, "http://a http://b http://c");
    let mut messages = Vec::new();
    wait_until("bo is removed", || {
        messages = server.messages(&room, &guest);
        messages.iter().any(|one| one["removed"] == true && one["user"] == "bo")
    });
    let of_bot = messages.iter().filter(|one| one["user"] == "greeter" && one["type"] != "chat");
    assert_eq!(of_bot.count(), 1, "it has joined once: {messages:?}");
}

#[test]
fn the_bot_of_the_guide_greets_and_removes() {
    let Some(node) = needed("node", find(&["node", "nodejs"])) else { return };
    let server = Server::start(PATIENT);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guide-bot");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("client.js"), server.ask(get("/client.js")).expect(200).body)
        .expect("a file");
    fs::write(folder.join("bot.mjs"), guide_block("js", &server)).expect("a file");
    let mut bot = command(node);
    bot.args(["--experimental-websocket", "--no-warnings"]).arg(folder.join("bot.mjs"));
    expect_greetings(&server, bot);
}

#[test]
fn the_bot_of_curl_and_jq_greets_and_removes() {
    let programs = ["bash", "curl", "jq"].map(|name| needed(name, find(&[name])));
    let [Some(bash), Some(_), Some(_)] = programs else { return };
    let server = Server::start(PATIENT);
    let mut bot = command(bash);
    bot.arg("-c").arg(guide_block("sh", &server));
    expect_greetings(&server, bot);
}

#[test]
fn the_bot_in_python_greets_and_removes() {
    let Some(python) = python::with_websockets() else { return };
    let server = Server::start(PATIENT);
    let mut bot = command(python);
    bot.arg("-B").arg("-c").arg(guide_block("python", &server));
    expect_greetings(&server, bot);
}

#[test]
fn the_bot_in_go_greets_and_removes() {
    let Some(go) = needed("go", find(&["go"])) else { return };
    let server = Server::start(PATIENT);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guide-go");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("bot.go"), guide_block("go", &server)).expect("a file");
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("go-cache");
    let mut build = command(go);
    build.args(["build", "-o", "bot", "bot.go"]).current_dir(&folder);
    build.env("GOCACHE", cache).env("GOFLAGS", "").env("GO111MODULE", "off");
    run(&mut build).expect_success();
    expect_greetings(&server, command(folder.join("bot")));
}

/// The block is the example `bot`, which is compiled with the tests.
#[test]
fn the_bot_in_rust_greets_and_removes() {
    let server = Server::start(PATIENT);
    let code = include_str!("bot.rs").replace("localhost:8000", &server.host());
    assert_eq!(guide_block("rust,no_run", &server), code.trim_end());
    let tests = std::env::current_exe().expect("this program");
    let bot = tests.parent().and_then(Path::parent).expect("a folder").join("examples/bot");
    // Without a choice of targets, `cargo test` builds examples too.
    let built = bot.is_file().then_some(bot);
    let Some(bot) = needed("the example, by `cargo build --example bot`", built) else { return };
    let mut bot = command(bot);
    bot.arg(server.host());
    expect_greetings(&server, bot);
}
