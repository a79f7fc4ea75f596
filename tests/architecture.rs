//! What the compiler does not check about the source: which module imports which, that no files
//! import each other in a circle, which external crate belongs where, which calls are banned.
//!
//! `IMPORTS=1 cargo test --test architecture -- --nocapture` prints, for each file, the files that
//! it imports and the names that it takes from them.
//!
//! The source is read as tokens, so comments and strings don't count. Neither do tests: items under
//! `#[cfg(test)]` and files and folders named `tests` may import anything. A path counts as an
//! import of the file that defines the named item, through any number of re-exports. Calling a
//! method is not an import, wherever its `impl` block lies. A re-export of what lies in a file's
//! own submodules is not an import either: it only names them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// The modules that each module may import: imports point one way. `ws::close` is one file.
const MODULES: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("config", &[]),
    ("counters", &[]),
    ("guide", &[]),
    ("journal", &[]),
    ("ledger", &[]),
    ("slots", &[]),
    ("packed", &[]),
    ("web", &["packed"]),
    ("rate", &["clock"]),
    ("timers", &["slots", "clock"]),
    ("net", &["slots", "clock", "ledger"]),
    ("http", &[]),
    ("ws", &["http", "ledger"]),
    ("chat", &["slots", "timers", "rate", "clock", "ledger"]),
    ("api", &["http", "ws::close", "chat", "clock", "config", "counters", "ledger", "web"]),
    ("cluster", &["chat", "clock", "counters", "ledger", "packed", "rate", "slots", "timers"]),
    ("snapshot", &["chat", "clock"]),
    ("process", &["clock", "config", "journal", "net"]),
    (
        "server",
        &[
            "api", "chat", "clock", "cluster", "config", "counters", "http", "journal", "ledger",
            "net", "process", "rate", "slots", "snapshot", "timers", "ws",
        ],
    ),
    ("main", &["config", "journal", "process", "server"]),
    ("lib", &[]),
    ("build", &[]),
];

/// The modules that may use each external crate. An empty list allows all modules.
const CRATES: &[(&str, &[&str])] = &[
    ("bytes", &[]),
    ("ctutils", &["chat"]),
    ("getrandom", &["clock"]),
    ("httparse", &["http"]),
    ("httpdate", &["clock"]),
    ("humantime", &["clock"]),
    ("lexopt", &["config"]),
    ("log", &[]),
    ("minifier", &["build"]),
    ("miniz_oxide", &["packed"]),
    ("memmap2", &["chat"]),
    ("mio", &["net", "process", "server"]),
    ("pbkdf2", &["chat"]),
    ("proxy_header", &["net"]),
    ("rustix", &["journal", "process", "server", "snapshot"]),
    ("rustls", &["net"]),
    ("sd_listen_fds", &["process"]),
    ("serde", &["api", "chat"]),
    ("serde_json", &["api"]),
    ("sha1", &["chat", "cluster"]),
    ("signal_hook", &["process"]),
    ("signal_hook_mio", &["process"]),
    ("siphasher", &["chat", "cluster", "snapshot"]),
    ("slab", &["slots"]),
    ("smallvec", &["chat"]),
    ("socket2", &["net"]),
    ("tungstenite", &["ws"]),
    ("uuid", &[]),
    ("zeroizing_alloc", &["main"]),
    ("zopfli", &["build"]),
];

/// Code that only the named modules may contain, with the reason.
const BANNED: &[(&str, &[&str], &str)] = &[
    ("Instant::now", &["clock"], "the time is passed down from the event loop"),
    ("SystemTime::now", &["clock"], "the time is passed down from the event loop"),
    ("RandomState", &[], "randomness is passed down from the event loop"),
    ("BuildHasher", &[], "a peer that knows the hash of a map can make its look-ups slow"),
    ("BuildHasherDefault", &[], "a peer that knows the hash of a map can make its look-ups slow"),
    ("with_hasher", &[], "a peer that knows the hash of a map can make its look-ups slow"),
    ("thread::", &[], "the server has one thread"),
    ("unsafe", &[], "a system call or an allocator comes from a crate"),
    ("RefCell", &[], "ownership is decided at compile time"),
    ("static mut", &[], "there is no global state"),
    ("process::exit", &[], "main returns the exit code"),
    ("todo!", &[], "the main branch has no unfinished code"),
    ("unimplemented!", &[], "the main branch has no unfinished code"),
    (".unwrap()", &[], "`expect` gives the reason why it cannot fail"),
    ("println!", &[], "it panics when stdout is closed"),
    ("eprintln!", &[], "it panics when stderr is closed; `journal` writes there"),
];

#[test]
fn imports_point_one_way() {
    let source = Source::read();
    assert!(source.files.len() > 40, "the source was not found");
    if std::env::var_os("IMPORTS").is_some() {
        print!("{}", table(&source.imports(), |_, _| true));
    }
    let breaches = source.breaches();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let source = Source::read();
    let imports = source.imports();
    let circles = circles(&imports);
    let edges =
        table(&imports, |from, to| circles.get(from).is_some_and(|circle| circle.contains(to)));
    assert!(circles.is_empty(), "circles consist of these imports:\n{edges}");
}

/// The examples of the guide are read to learn from: an input cannot end them either.
#[test]
fn no_example_can_panic_at_unwrap() {
    let mut count = 0;
    visit(Path::new("src"), &mut |name, text| {
        if name.starts_with(EXAMPLES) {
            let is_free = ["unwrap()", ".expect(", "unsafe", "panic!"]
                .iter()
                .all(|call| !text.contains(call));
            assert!(is_free, "{name}");
            count += 1;
        }
    });
    assert!(count >= 3, "the examples were not found");
}

#[test]
fn a_type_name_is_defined_once() {
    let source = Source::read();
    let mut places = String::new();
    for (name, files) in source.types().into_iter().filter(|(_, files)| files.len() > 1) {
        writeln!(places, "{name}: {}", files.join(", ")).unwrap();
    }
    assert!(places.is_empty(), "type names that are defined more than once:\n{places}");
}

#[test]
fn every_file_opens_with_all_three_parts() {
    visit(Path::new("src"), &mut |name, text| {
        // lib.rs opens with an introduction to the whole crate.
        let is_complete = name == "lib.rs" || opens_properly(text);
        assert!(is_complete, "{name}: what does it own, what must it not know, what is invariant?");
    });
}

#[test]
fn the_lists_name_every_module_and_dependency_and_no_other() {
    let source = Source::read();
    let modules = source.files.keys().map(|path| path.first().map_or("lib", String::as_str));
    let listed = MODULES.iter().map(|(module, _)| *module);
    assert_eq!(listed.collect::<BTreeSet<_>>(), modules.collect());

    let manifest = fs::read_to_string("Cargo.toml").unwrap();
    let sections = manifest.split("\n[").filter(|section| {
        section.starts_with("dependencies]") || section.starts_with("build-dependencies]")
    });
    let lines = sections.flat_map(str::lines).filter(|line| !line.starts_with('#'));
    let crates =
        lines.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.replace('-', "_"));
    let listed = CRATES.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(listed.collect::<BTreeSet<_>>(), crates.collect());
}

#[test]
fn a_breach_is_seen() {
    #[track_caller]
    fn check(module: &str, code: &str, expected: &[&str]) {
        let files = [
            (format!("{module}.rs"), code),
            ("net/mod.rs".into(), "mod link; pub use link::Link;"),
            ("net/link.rs".into(), "pub struct Link;"),
            ("clock.rs".into(), "pub struct Mono;"),
            ("ws/mod.rs".into(), "pub mod close; pub struct Context;"),
            ("ws/close.rs".into(), "pub struct Close; pub fn code() {}"),
        ];
        let files = files.iter().map(|(name, text)| (name.as_str(), *text));
        assert_eq!(Source::parse(files).breaches(), expected, "{code}");
    }
    let link = "`http` may not import `net/link` (Link)";
    check("http", "use crate::net::Link;", &[link]);
    check("http", "use crate::net; fn f() { net::Link::new(); }", &[link]);
    check("http", "fn f() { let link = crate::net::Link::new(stream); }", &[link]);
    check("http", "struct Codec { link: crate::net::link::Link }", &[link]);
    check("http", "use crate::net as wires; type L = wires::Link;", &[link]);
    check(
        "api",
        "use crate::{clock::Mono, ws::close::{self, Close}}; fn f() { close::code() }",
        &[],
    );
    check(
        "api",
        "use crate::{\n clock::Mono,\n ws::{Context, close},\n};",
        &["`api` may not import `ws/mod` (Context)"],
    );
    check("main", "use disposable_chat::clock::Mono;", &["`main` may not import `clock` (Mono)"]);
    check("chat", "use serde_json::Value;", &["the crate `serde_json` does not belong in `chat`"]);
    check(
        "chat",
        "fn f() -> mio::Token { g(mio::Token(0)) }",
        &["the crate `mio` does not belong in `chat`"],
    );
    check("api", "use serde_json::Value; fn f(x: serde::T) {}", &[]);
    let time = "`Instant::now` is banned in `chat`: the time is passed down from the event loop";
    check("chat", "fn f() { Instant::now(); }", &[time]);
    check("clock", "fn f() { Instant::now(); }", &[]);
    check("chat", "// Instant::now() would be wrong here.\n/// crate::net::Link", &[]);
    check("chat", "fn f() { log(\"unsafe\"); }", &[]);
    check("chat", "#[cfg(test)]\nmod tests { use crate::net::Link; }", &[]);
    check(
        "chat",
        "#[cfg(test)] fn f() { x.unwrap() } fn g() { x.unwrap() }",
        &["`.unwrap()` is banned in `chat`: `expect` gives the reason why it cannot fail"],
    );
    check(
        "chat",
        "use crate::net::Rope;",
        &["`chat` names `crate::net::Rope`, which is not found"],
    );
    let inline = "mod inner { use super::Link; use crate::net::Link as L; } struct Link;";
    check("http", inline, &[link]);
    check("http", "mod inner { pub const X: u8 = 1; } fn f() { inner::X; self::inner::X }", &[]);
    check("cellar", "", &["the module `cellar` is missing from MODULES"]);
}

#[test]
fn a_circle_is_seen() {
    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let source = Source::parse(files.iter().copied());
        let imports = source.imports();
        assert_eq!(circles(&imports).into_keys().collect::<Vec<_>>(), expected, "{files:?}");
    }
    let root = "mod room; mod keys; pub use keys::RoomKey; pub struct Chat;";
    let room = (
        "chat/room.rs",
        "use super::{keys::UserKey, RoomKey}; pub struct Room; impl super::Chat {}",
    );
    let keys = ("chat/keys.rs", "pub struct RoomKey; pub struct UserKey;");
    check(&[("chat/mod.rs", root), room, keys], &[]);
    let root_and = |more: &str| format!("{root} {more}");
    let of_room = root_and("use room::Room;");
    check(&[("chat/mod.rs", &of_room), room, keys], &["chat/mod", "chat/room"]);
    check(
        &[("chat/mod.rs", &root_and("struct X { room: room::Room }")), room, keys],
        &["chat/mod", "chat/room"],
    );
    let long = "use super::room::Room; pub struct RoomKey; pub struct UserKey;";
    check(&[("chat/mod.rs", root), room, ("chat/keys.rs", long)], &["chat/keys", "chat/room"]);
    let through_glob = root_and("pub use room::*;");
    let user = "pub struct RoomKey; pub struct UserKey; fn f(room: super::Room) {}";
    let named = ("chat/room.rs", "use super::RoomKey; pub struct Room;");
    check(
        &[("chat/mod.rs", &through_glob), named, ("chat/keys.rs", user)],
        &["chat/keys", "chat/room"],
    );
}

#[test]
fn a_second_definition_of_a_type_is_seen() {
    let room = "pub struct Room<T: Sink> { state: State } enum State {} fn f() { struct Local; }";
    let http = "type State = u8; impl Iterator for X { type Item = u8; } struct Local;";
    let source = Source::parse([("chat/room.rs", room), ("http/mod.rs", http)].into_iter());
    let types = source.types();
    assert_eq!(types["State"], ["chat/room", "http/mod"]);
    assert_eq!(types["Local"], ["http/mod"]);
    assert_eq!(types.into_keys().collect::<Vec<_>>(), ["Local", "Room", "State"]);
}

#[test]
fn an_incomplete_opening_is_seen() {
    assert!(opens_properly("//! Owns a.\n//! Must not know b. Invariant: c.\nuse d;"));
    assert!(!opens_properly("//! Owns a. Must not know b.\n// The invariant: c.\n"));
    assert!(!opens_properly("use d;\n//! Owns a. Must not know b. Invariant: c.\n"));
}

fn opens_properly(text: &str) -> bool {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let opening = lines.collect::<Vec<_>>().join("").to_lowercase();
    let must_not = opening.contains("must not") || opening.contains("must never");
    must_not && opening.contains("owns") && opening.contains("invariant")
}

/// From file to file, with the names that are imported.
type Imports<'a> = BTreeMap<&'a str, BTreeMap<&'a str, BTreeSet<String>>>;

/// `a → b (X, Y), c (Z)` for the imports that `select` lets through, one line for each importer.
fn table(imports: &Imports<'_>, select: impl Fn(&str, &str) -> bool) -> String {
    let mut text = String::new();
    for (from, targets) in imports {
        let targets = targets.iter().filter(|(to, _)| select(from, to));
        let shown: Vec<String> =
            targets.map(|(to, names)| format!("{to} ({})", list(names))).collect();
        if !shown.is_empty() {
            writeln!(text, "{from} → {}", shown.join(", ")).unwrap();
        }
    }
    text
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The files that import themselves through others, each with all files of its circles.
fn circles<'a>(imports: &Imports<'a>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let reachable = |start: &'a str| {
        let mut seen = BTreeSet::new();
        let mut ahead = vec![start];
        while let Some(file) = ahead.pop() {
            let targets = imports.get(file).into_iter().flat_map(BTreeMap::keys);
            ahead.extend(targets.copied().filter(|target| seen.insert(*target)));
        }
        seen
    };
    let all: BTreeMap<_, _> = imports.keys().map(|file| (*file, reachable(file))).collect();
    let comes_back = |from: &str, to: &str| all.get(to).is_some_and(|seen| seen.contains(from));
    let circle = |file: &'a str, seen: &BTreeSet<&'a str>| -> BTreeSet<&'a str> {
        seen.iter().copied().filter(|other| comes_back(file, other)).collect()
    };
    let circles = all.iter().map(|(file, seen)| (*file, circle(file, seen)));
    circles.filter(|(file, circle)| circle.contains(file)).collect()
}

/// The shipped files by the paths of their modules; the path of `lib.rs` is empty.
struct Source {
    files: BTreeMap<Vec<String>, File>,
}

struct File {
    /// Path below `src` without `.rs`.
    name: String,
    /// Everything but comments, `use` declarations and tests.
    tokens: Vec<String>,
    uses: Vec<Use>,
    /// Names that the file defines at its top level; true for types.
    items: BTreeMap<String, bool>,
}

/// One name of a `use` declaration.
struct Use {
    path: Vec<String>,
    /// The name bound in this file: `None` for `_`, `*` for all names.
    bound: Option<String>,
    is_reexport: bool,
}

/// Where a path leads.
enum Place {
    /// To an item of this name in the file that has this module path.
    Item(Vec<String>, String),
    Module(Vec<String>),
    /// Out of the crate, or to a local name.
    Outside,
    Nowhere,
}

/// Programs of their own, which no module imports. Like modules, they open with all three parts.
const EXAMPLES: &str = "guide/step_by_step/";

impl Source {
    fn read() -> Source {
        let mut texts = Vec::new();
        visit(Path::new("src"), &mut |name, text| {
            if !name.starts_with(EXAMPLES) {
                texts.push((name.to_owned(), text.to_owned()));
            }
        });
        Source::parse(texts.iter().map(|(name, text)| (name.as_str(), text.as_str())))
    }

    fn parse<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>) -> Source {
        let mut files = BTreeMap::new();
        for (name, text) in texts {
            let name = name.strip_suffix(".rs").expect("a Rust file");
            let module = name.strip_suffix("/mod").unwrap_or(name);
            let module = module.split('/').filter(|part| *part != "lib").map(str::to_owned);
            files.insert(module.collect(), File::parse(name, text));
        }
        Source { files }
    }

    fn imports(&self) -> Imports<'_> {
        let mut imports = Imports::new();
        for (module, file) in &self.files {
            let targets = imports.entry(file.name.as_str()).or_default();
            for (path, is_reexport) in file.paths() {
                let Place::Item(target, item) = self.find(module, &path, 0) else { continue };
                if target != *module && !(is_reexport && target.starts_with(module)) {
                    let names = targets.entry(self.files[&target].name.as_str()).or_default();
                    names.insert(item);
                }
            }
        }
        imports
    }

    fn breaches(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        let imports = self.imports();
        for (path, file) in &self.files {
            let module = path.first().map_or("lib", String::as_str);
            let Some((_, allowed)) = MODULES.iter().find(|(name, _)| *name == module) else {
                breaches.push(format!("the module `{module}` is missing from MODULES"));
                continue;
            };
            for (target, names) in &imports[file.name.as_str()] {
                let target_path = target.replace('/', "::") + "::";
                let is_allowed = |module: &str| target_path.starts_with(&format!("{module}::"));
                if !is_allowed(module) && !allowed.iter().any(|module| is_allowed(module)) {
                    let names = list(names);
                    breaches.push(format!("`{}` may not import `{target}` ({names})", file.name));
                }
            }
            let mut crates = BTreeSet::new();
            for (named, _) in file.paths() {
                match self.find(path, &named, 0) {
                    Place::Nowhere => {
                        let named = named.join("::");
                        breaches
                            .push(format!("`{}` names `{named}`, which is not found", file.name));
                    }
                    Place::Outside => drop(crates.insert(named[0].clone())),
                    Place::Item(..) | Place::Module(_) => {}
                }
            }
            for (name, homes) in CRATES {
                if !homes.is_empty() && !homes.contains(&module) && crates.contains(*name) {
                    breaches.push(format!("the crate `{name}` does not belong in `{}`", file.name));
                }
            }
            for (code, homes, why) in BANNED {
                let banned = tokens(code);
                let mut places = file.tokens.windows(banned.len());
                if !homes.contains(&module) && places.any(|place| place == banned) {
                    breaches.push(format!("`{code}` is banned in `{}`: {why}", file.name));
                }
            }
        }
        breaches
    }

    fn types(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut types: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for file in self.files.values() {
            for (name, _) in file.items.iter().filter(|(_, is_type)| **is_type) {
                types.entry(name.as_str()).or_default().push(file.name.as_str());
            }
        }
        types
    }

    /// Follows a path from a module, as the compiler does: items, submodules, then imports.
    fn find(&self, from: &[String], path: &[String], hops: usize) -> Place {
        assert!(hops < 20, "{path:?} in {from:?} leads to itself");
        let mut at = from.to_vec();
        let mut rest = path;
        let mut is_rooted = true;
        match path[0].as_str() {
            "crate" | "disposable_chat" => at.clear(),
            "self" => {}
            "super" => drop(at.pop()),
            _ => is_rooted = false,
        }
        if is_rooted {
            rest = &rest[1..];
        }
        while let Some((name, after)) = rest.split_first() {
            let below = [&at[..], std::slice::from_ref(name)].concat();
            if name == "super" {
                at.pop();
            } else if self.files.contains_key(&below) {
                at = below;
            } else if self.files.get(&at).is_some_and(|file| file.items.contains_key(name)) {
                return Place::Item(at, name.clone());
            } else if let Some(found) = self.find_imported(&at, name, after, hops) {
                return found;
            } else {
                return if is_rooted { Place::Nowhere } else { Place::Outside };
            }
            rest = after;
            is_rooted = true;
        }
        Place::Module(at)
    }

    fn find_imported(
        &self,
        at: &[String],
        name: &String,
        after: &[String],
        hops: usize,
    ) -> Option<Place> {
        let file = self.files.get(at)?;
        // `use log::{self}` binds `log` to a path that begins with the same name.
        let by_name = file.uses.iter().find(|import| {
            import.bound.as_ref() == Some(name) && import.path.first() != Some(name)
        });
        if let Some(import) = by_name {
            return Some(self.find(at, &[&import.path[..], after].concat(), hops + 1));
        }
        let globs = file.uses.iter().filter(|import| import.bound.as_deref() == Some("*"));
        globs
            .filter_map(|import| match self.find(at, &import.path, hops + 1) {
                Place::Module(module) => {
                    let path = [&["self".to_owned(), name.clone()][..], after].concat();
                    Some(self.find(&module, &path, hops + 1))
                }
                _ => None,
            })
            .find(|place| matches!(place, Place::Item(..) | Place::Module(_)))
    }
}

impl File {
    fn parse(name: &str, text: &str) -> File {
        let (tokens, uses) = without_uses(&without_inline_modules(without_tests(tokens(text))));
        let items = items(&tokens);
        File { name: name.to_owned(), tokens, uses, items }
    }

    /// All paths of at least two names, each with whether it is a re-export.
    fn paths(&self) -> impl Iterator<Item = (Vec<String>, bool)> {
        let uses = self.uses.iter().map(|import| (import.path.clone(), import.is_reexport));
        let named = (0..self.tokens.len()).filter_map(|start| {
            let before = start.checked_sub(1).map(|before| self.tokens[before].as_str());
            if before == Some("::") || !is_name(&self.tokens[start]) {
                return None;
            }
            let mut path = vec![self.tokens[start].clone()];
            let mut behind = &self.tokens[start + 1..];
            while let [colons, name, after @ ..] = behind {
                if colons != "::" || !is_name(name) {
                    break;
                }
                path.push(name.clone());
                behind = after;
            }
            (path.len() > 1).then_some((path, false))
        });
        uses.chain(named)
    }
}

/// Identifiers, literals, punctuation and delimiters in one row; `::` is one token.
fn tokens(code: &str) -> Vec<String> {
    fn flatten(stream: TokenStream, row: &mut Vec<String>) {
        let mut is_colon_joint = false;
        for tree in stream {
            let was_colon_joint = std::mem::take(&mut is_colon_joint);
            match tree {
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Parenthesis => ("(", ")"),
                        Delimiter::Bracket => ("[", "]"),
                        Delimiter::Brace => ("{", "}"),
                        Delimiter::None => ("", ""),
                    };
                    row.push(open.to_owned());
                    flatten(group.stream(), row);
                    row.push(close.to_owned());
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    if was_colon_joint {
                        *row.last_mut().expect("the first colon") = "::".to_owned();
                    } else {
                        row.push(":".to_owned());
                        is_colon_joint = punct.spacing() == Spacing::Joint;
                    }
                }
                tree => row.push(tree.to_string()),
            }
        }
    }
    let mut row = Vec::new();
    flatten(code.parse().expect("the source consists of tokens"), &mut row);
    row
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Leaves out each item under `#[cfg(test)]`: up to its semicolon or the end of its block.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut rest = &tokens[..];
    while !rest.is_empty() {
        if rest.len() > marker.len() && rest.iter().zip(marker).all(|(token, part)| token == part) {
            let mut depth = 0;
            let mut is_over = false;
            rest = &rest[marker.len()..];
            while let Some((token, after)) = rest.split_first().filter(|_| !is_over) {
                match token.as_str() {
                    "{" | "(" | "[" => depth += 1,
                    "}" | ")" | "]" => depth -= 1,
                    _ => {}
                }
                is_over = depth == 0 && matches!(token.as_str(), "}" | ";");
                rest = after;
            }
        } else {
            kept.push(rest[0].clone());
            rest = &rest[1..];
        }
    }
    kept
}

/// The items of `mod name { … }` belong to the file, so `super` inside means the file itself.
fn without_inline_modules(mut tokens: Vec<String>) -> Vec<String> {
    // For each open brace, whether it is a module's.
    let mut braces = Vec::new();
    for at in 0..tokens.len() {
        match tokens[at].as_str() {
            "{" => braces.push(at > 1 && tokens[at - 2] == "mod"),
            "}" => drop(braces.pop()),
            "super" if braces.contains(&true) && tokens[at - 1] != "::" => {
                tokens[at] = "self".to_owned();
            }
            _ => {}
        }
    }
    tokens
}

fn without_uses(tokens: &[String]) -> (Vec<String>, Vec<Use>) {
    let mut kept: Vec<String> = Vec::new();
    let mut uses = Vec::new();
    let mut rest = tokens;
    while let Some((token, after)) = rest.split_first() {
        rest = after;
        // `impl Trait + use<'a>` is no declaration.
        if token != "use" || after.first().is_some_and(|next| next == "<") {
            kept.push(token.clone());
            continue;
        }
        let is_reexport = match &kept[..] {
            [.., last] if last == "pub" => true,
            [.., public, _, _, last] if public == "pub" && last == ")" => true,
            _ => false,
        };
        rest = use_tree(after, &[], is_reexport, &mut uses);
    }
    (kept, uses)
}

/// Reads `a::b`, `a as b`, `a::*` or `a::{b, c}` and returns what follows.
fn use_tree<'a>(
    mut rest: &'a [String],
    before: &[String],
    is_reexport: bool,
    uses: &mut Vec<Use>,
) -> &'a [String] {
    let mut path = before.to_vec();
    while let Some((token, after)) = rest.split_first() {
        match token.as_str() {
            "::" => rest = after,
            "*" => {
                uses.push(Use { path, bound: Some("*".to_owned()), is_reexport });
                return after;
            }
            "{" => {
                rest = after;
                while rest.first().is_some_and(|token| token != "}") {
                    rest = use_tree(rest, &path, is_reexport, uses);
                    rest = rest.strip_prefix(&[",".to_owned()][..]).unwrap_or(rest);
                }
                return &rest[1..];
            }
            "as" => {
                let bound = Some(after[0].clone()).filter(|name| name != "_");
                uses.push(Use { path, bound, is_reexport });
                return &after[1..];
            }
            "self" if !path.is_empty() => rest = after,
            name if is_name(name) => {
                path.push(token.clone());
                rest = after;
            }
            _ => break,
        }
    }
    let bound = path.last().cloned();
    uses.push(Use { path, bound, is_reexport });
    rest
}

/// Names that are defined outside of all braces but those of an item macro, `name! { … }`; true for
/// types.
fn items(tokens: &[String]) -> BTreeMap<String, bool> {
    let mut items = BTreeMap::new();
    // True for the braces of an item macro.
    let mut open: Vec<bool> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let mut name = tokens.get(at + 1);
        let is_type = matches!(token.as_str(), "struct" | "enum" | "trait" | "type" | "union");
        match token.as_str() {
            "{" | "(" | "[" => {
                open.push(token == "{" && at > 0 && tokens[at - 1] == "!");
                continue;
            }
            "}" | ")" | "]" => {
                open.pop();
                continue;
            }
            "macro_rules" => name = tokens.get(at + 2),
            "struct" | "enum" | "trait" | "type" | "union" | "fn" | "const" | "static" | "mod" => {}
            _ => continue,
        }
        if let Some(name) =
            name.filter(|name| open.iter().all(|is_macro| *is_macro) && is_name(name))
        {
            items.insert(name.clone(), is_type);
        }
    }
    items
}

/// Visits every shipped Rust file, with its path below `src`.
fn visit(folder: &Path, look: &mut dyn FnMut(&str, &str)) {
    for entry in fs::read_dir(folder).expect("tests run at the root of the crate") {
        let path = entry.expect("a folder can be listed").path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            visit(&path, look);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix("src").expect("only src is visited");
            let name = name.to_str().expect("names are UTF-8");
            look(name, &fs::read_to_string(&path).expect("source is text"));
        }
    }
}
