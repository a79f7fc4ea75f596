//! The house rules that a compiler doesn't check: who may import whom, where a crate is at home,
//! and which calls nobody makes.
//!
//! Reads the source as text, line by line. Only what is shipped counts: tests may do as they like.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Which rooms a room may import. A room is a file or folder of `src`.
const ROOMS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("config", &[]),
    ("counters", &[]),
    ("guide", &[]),
    ("journal", &[]),
    ("ledger", &[]),
    ("slots", &[]),
    ("web", &[]),
    ("timers", &["slots", "clock"]),
    ("net", &["slots", "clock", "ledger"]),
    ("http", &[]),
    ("ws", &["http", "ledger"]),
    ("chat", &["slots", "timers", "clock", "ledger"]),
    ("api", &["http", "ws::close", "chat", "clock", "config", "counters", "ledger", "web"]),
    (
        "server",
        &[
            "api", "chat", "clock", "config", "counters", "http", "journal", "ledger", "net",
            "slots", "snapshot", "timers", "ws",
        ],
    ),
    ("snapshot", &["chat"]),
    ("main", &["config", "journal", "server"]),
    ("lib", &[]),
    ("build", &[]),
];

/// Where a crate is at home. `bytes`, `uuid` and `log` are anywhere.
const CRATES: &[(&str, &[&str])] = &[
    ("mio", &["net", "server"]),
    ("socket2", &["net"]),
    ("rustls", &["net"]),
    ("httparse", &["http"]),
    ("tungstenite", &["ws"]),
    ("slab", &["slots"]),
    ("getrandom", &["clock"]),
    ("humantime", &["clock"]),
    ("httpdate", &["clock"]),
    ("proxy_header", &["net"]),
    ("siphasher", &["chat", "snapshot"]),
    ("smallvec", &["chat"]),
    ("pbkdf2", &["chat"]),
    ("sha1", &["chat"]),
    ("ctutils", &["chat"]),
    ("lexopt", &["config"]),
    ("miniz_oxide", &["web"]),
    ("flate2", &["build"]),
    ("serde", &["api", "chat"]),
    ("serde_json", &["api"]),
    ("rustix", &["server", "journal"]),
    ("zeroizing_alloc", &["main"]),
    ("sd_listen_fds", &["server"]),
    ("signal_hook", &["server"]),
    ("signal_hook_mio", &["server"]),
];

/// What nobody says, but for the rooms named, and why.
const BANNED: &[(&str, &[&str], &str)] = &[
    ("Instant::now", &["clock"], "the time is passed down"),
    ("SystemTime::now", &["clock"], "the time is passed down"),
    ("RandomState", &[], "randomness is passed down"),
    ("thread::", &[], "there is one thread"),
    ("unsafe ", &[], "nothing here needs it"),
    ("RefCell", &[], "who owns what is known at compile time"),
    ("static mut", &[], "nothing is global"),
    ("process::exit", &[], "main returns its code"),
    ("todo!", &[], "what is there works"),
    ("unimplemented!", &[], "what is there works"),
    (".unwrap()", &[], "`expect` says why it cannot fail"),
    ("println!", &[], "stdout and stderr have one writer each, and neither may panic"),
];

#[test]
fn every_room_keeps_to_its_doors() {
    let mut breaches = String::new();
    let mut files = 0;
    visit(Path::new("src"), &mut |path, text| {
        files += 1;
        for breach in breaches_in(room_of(path), text) {
            writeln!(breaches, "{}: {breach}", path.display()).expect("a String takes it");
        }
    });
    assert!(files > 40, "the source was not found");
    assert!(breaches.is_empty(), "\n{breaches}");
}

#[test]
fn every_file_says_what_it_owns_and_what_it_must_never_know() {
    visit(Path::new("src"), &mut |path, text| {
        let opening: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(opening.len() > 100, "{} opens without a word", path.display());
    });
}

#[test]
fn a_breach_is_seen() {
    let seen = |room, text: &str| breaches_in(room, text).len();
    assert_eq!(seen("http", "use crate::net::Link;"), 1);
    assert_eq!(seen("http", "    let link = crate::net::Link::new(stream);"), 1);
    assert_eq!(seen("api", "use crate::{chat::Chat, ws::close::Close};"), 0);
    assert_eq!(seen("api", "use crate::{\n    chat::Chat,\n    ws::Context,\n};"), 1);
    assert_eq!(seen("api", "use crate::ws::Context;"), 1);
    assert_eq!(seen("api", "use crate::ws::close::Close;"), 0);
    assert_eq!(seen("chat", "use serde_json::Value;"), 1);
    assert_eq!(seen("chat", "    let value: serde_json::Value = read();"), 1);
    assert_eq!(seen("chat", "let now = Instant::now();"), 1);
    assert_eq!(seen("clock", "let now = Instant::now();"), 0);
    assert_eq!(seen("chat", "// Instant::now() would be wrong here."), 0);
    assert_eq!(seen("chat", "#[cfg(test)]\nmod tests { use crate::net::Link; }"), 0);
    assert_eq!(seen("cellar", ""), 1, "a room that is on no plan");
}

fn breaches_in(room: &str, text: &str) -> Vec<String> {
    let Some((_, doors)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("the room `{room}` is on no plan")];
    };
    let code = shipped_code(text);
    let mut breaches = Vec::new();
    for path in imports(&code) {
        let own = path == room || path.starts_with(&format!("{room}::"));
        let open = doors.iter().any(|door| path == *door || path.starts_with(&format!("{door}::")));
        if !own && !open {
            breaches.push(format!("`{room}` may not import `{path}`"));
        }
    }
    for (name, homes) in CRATES {
        if !homes.contains(&room) && mentions_crate(&code, name) {
            breaches.push(format!("the crate `{name}` is not at home in `{room}`"));
        }
    }
    for (call, homes, why) in BANNED {
        if !homes.contains(&room) && code.contains(call) {
            breaches.push(format!("`{call}`: {why}"));
        }
    }
    breaches
}

/// Without comments and without what follows the first `#[cfg(test)] mod`.
fn shipped_code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// What follows `crate::` (or the crate's name, in `main`), groups taken apart: `a::b` for each.
fn imports(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let starts = ["crate::", "disposable_chat::"];
    for (at, start) in starts.iter().flat_map(|start| code.match_indices(start)) {
        let rest = &code[at + start.len()..];
        match rest.strip_prefix('{') {
            Some(group) => paths.extend(members(group)),
            None => paths.push(path_at(rest)),
        }
    }
    paths
}

/// The paths of a group up to its closing brace; what is nested belongs to the path before it.
fn members(group: &str) -> Vec<String> {
    let (mut depth, mut end) = (1, 0);
    let mut starts = vec![0];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => starts.push(at + 1),
            _ => {}
        }
        end = at;
        if depth == 0 {
            break;
        }
    }
    let members = starts.into_iter().map(|at| group[at..end].trim());
    members.filter(|member| !member.is_empty()).map(path_at).collect()
}

fn path_at(text: &str) -> String {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    text[..end.unwrap_or(text.len())].trim_end_matches(':').to_owned()
}

fn mentions_crate(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    }) || code.contains(&format!("use {name};"))
}

/// The first part of the path below `src`.
fn room_of(path: &Path) -> &str {
    let below = path.strip_prefix("src").expect("only src is visited");
    let first = below.iter().next().and_then(|part| part.to_str()).expect("names are UTF-8");
    first.strip_suffix(".rs").unwrap_or(first)
}

/// Every shipped Rust file. Tests of a room lie in `tests.rs`, or in a folder of that name.
fn visit(folder: &Path, look: &mut dyn FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).expect("tests run at the crate's root") {
        let path = entry.expect("an entry").path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            visit(&path, look);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            look(&path, &fs::read_to_string(&path).expect("source is text"));
        }
    }
}
