//! The README and the guide, held against the files, flags and metrics that they speak of.
//!
//! A link that leads nowhere, a path that has moved, a flag without a row or with another default: each is a
//! failing test. What the pages say in prose is for people to check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use disposable_chat::api::error::Code;
use disposable_chat::config::FLAGS;

#[allow(dead_code, reason = "the build script calls the rest")]
#[path = "../src/build/guide.rs"]
mod build;

const README: &str = "README.md";
const README_LINES_MAX: usize = 200;
const GUIDE_LINES_MAX: usize = 2500;
const GUIDE: &str = "src/guide";
const STEPS: &str = "src/guide/step_by_step";

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages below a folder of the guide.
fn pages_in(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("tests run at the crate's root");
    let mut pages: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    assert!(pages.len() >= 3, "{pages:?}");
    pages
}

fn guide_pages() -> Vec<PathBuf> {
    [pages_in(GUIDE), pages_in(STEPS)].concat()
}

/// The name of a page, which is also its module's.
fn stem(page: &Path) -> &str {
    page.file_stem().and_then(|stem| stem.to_str()).expect("a name in UTF-8")
}

fn all_pages() -> Vec<PathBuf> {
    [vec![PathBuf::from(README)], guide_pages()].concat()
}

/// What a forge shows to people who report something or propose a change.
fn forge_pages() -> Vec<PathBuf> {
    let names = ["SECURITY", "PULL_REQUEST_TEMPLATE", "ISSUE_TEMPLATE/bug", "ISSUE_TEMPLATE/idea"];
    names.map(|name| PathBuf::from(format!(".github/{name}.md"))).to_vec()
}

// ---- Markdown, as far as these pages use it

struct Fence {
    language: String,
    lines: Vec<String>,
}

/// The fenced code blocks of a page.
fn fences(text: &str) -> Vec<Fence> {
    let mut fences = Vec::new();
    let mut open: Option<Fence> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                open = Some(Fence { language: language.to_owned(), lines: Vec::new() });
            }
            (Some(_), Some(_)) => fences.extend(open.take()),
            (None, Some(fence)) => fence.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a code block is never closed");
    fences
}

/// The lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// What stands between backticks in a line, and what stands outside of them.
fn code_spans(line: &str) -> (Vec<&str>, String) {
    let (mut spans, mut rest) = (Vec::new(), String::new());
    for (place, piece) in line.split('`').enumerate() {
        if place % 2 == 1 { spans.push(piece) } else { rest.push_str(piece) }
    }
    (spans, rest)
}

fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(text) {
        let (_, line) = code_spans(line);
        let targets = line.split("](").skip(1).map(|rest| rest.split_once(')'));
        links.extend(targets.map(|target| target.expect("a link ends on its line").0.to_owned()));
        assert!(!line.contains("]: "), "a reference link, which the build script does not rewrite");
    }
    links
}

/// A heading's anchor, as GitHub makes it; rustdoc makes the same.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// All anchors of a page: its headings, and those it sets by itself with `<a id="…">`.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut add = |anchor: String| assert!(anchors.insert(anchor.clone()), "{anchor} comes twice");
    for line in prose(text) {
        if line.starts_with('#') {
            add(slug(line.trim_start_matches('#').trim()));
        }
        for rest in line.split("<a id=\"").skip(1) {
            add(rest.split('"').next().unwrap_or_default().to_owned());
        }
    }
    anchors
}

// ---- Links and paths

#[test]
fn every_link_leads_to_a_file_and_an_anchor() {
    let mut broken = Vec::new();
    for page in [all_pages(), forge_pages()].concat() {
        let text = read(&page);
        let folder = page.parent().expect("a page lies in a folder");
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = if file.is_empty() { page.clone() } else { folder.join(file) };
            let is_found =
                target.exists() && (anchor.is_empty() || anchors(&read(&target)).contains(anchor));
            if !is_found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The build script rewrites links to pages and to source; in rustdoc anything else leads nowhere. An
/// installed copy has no source, so only the steps, which are about code, link to it.
#[test]
fn pages_of_the_guide_link_only_each_other_and_the_web() {
    for page in guide_pages() {
        let is_step = page.starts_with(STEPS);
        for link in links(&read(&page)) {
            let file = link.split('#').next().unwrap_or_default();
            let is_page = file.is_empty() || file.ends_with(".md");
            let is_source = is_step
                && file.strip_suffix(".rs").is_some_and(|file| match file.strip_prefix("../../") {
                    Some(module) => !module.contains(".."),
                    None => file == stem(&page) || file == "event_loop",
                });
            let is_known = is_page || is_source || link.starts_with("https://");
            assert!(is_known, "{}: {link}", page.display());
        }
    }
}

#[test]
fn every_page_is_a_module_and_the_readme_links_it() {
    let (modules, readme) = (read("src/guide/mod.rs"), links(&read(README)));
    for page in pages_in(GUIDE) {
        let name = stem(&page);
        assert!(modules.contains(&format!("\npub mod {name} {{")), "{name}");
        assert!(readme.contains(&format!("{GUIDE}/{name}.md")), "{name}");
    }
    let steps = links(&read(format!("{STEPS}.md")));
    for page in pages_in(STEPS) {
        let name = stem(&page);
        assert!(modules.contains(&format!("\n    pub mod {name} {{}}\n")), "{name}");
        assert!(steps.contains(&format!("step_by_step/{name}.md")), "{name}");
    }
}

/// Each step is a page, a program that the manifest declares, and a module of `tests/steps.rs`.
#[test]
fn every_step_is_a_short_page_and_a_short_program_with_tests() {
    let (manifest, tests) = (read("Cargo.toml"), read("tests/steps.rs"));
    for page in pages_in(STEPS) {
        let (name, text) = (stem(&page), read(&page));
        let program = format!("{STEPS}/{name}.rs");
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"{program}\"")), "{name}");
        assert!(tests.contains(&format!("mod {name};")), "{name}");
        // Its name is the filter that the page names: without a test below it, nothing would run.
        let step = name.split('_').next().unwrap_or_default();
        let (_, own) = tests.split_once(&format!("\nmod {step} {{\n")).expect("its tests");
        let (own, _) = own.split_once("\n}\n").expect("their end");
        assert!(own.matches("\n    #[test]\n").count() >= 3, "{step}");
        assert!(text.contains(&format!("cargo run --example {name}")), "{name}");
        assert!(text.contains("\n**Exercise.** "), "{name}");
        assert!(text.lines().count() <= 40 && read(&program).lines().count() < 200, "{name}");
    }
    // Steps 4 and 5 share it.
    assert!(read(format!("{STEPS}/event_loop.rs")).lines().count() < 200);
}

#[test]
fn every_path_that_is_named_exists() {
    let mut missing = Vec::new();
    for page in [all_pages(), forge_pages()].concat() {
        for line in prose(&read(&page)) {
            let words = code_spans(line).0.into_iter().flat_map(str::split_whitespace);
            for path in words {
                let is_path = ["src/", "tests/", "benches/", ".ci/"]
                    .iter()
                    .any(|top| path.starts_with(top) && !path.contains(['{', '*', '…']));
                if is_path && !Path::new(path).exists() {
                    missing.push(format!("{}: {path}", page.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Rustdoc's own anchors are not all a heading's: some are taken. Reads what `cargo doc` makes, which takes a
/// while, so only under `SLOW_TESTS=1`.
#[test]
fn every_link_leads_to_an_anchor_in_rustdocs_output_too() {
    if std::env::var_os("SLOW_TESTS").is_none() {
        return;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("doc");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["doc", "--no-deps", "--locked", "--quiet", "--target-dir"]).arg(&target);
    assert!(cargo.status().expect("cargo runs").success());
    let guide = target.join("doc/disposable_chat/guide");
    let mut checked = 0;
    for page in guide_pages() {
        let name = page.with_extension("");
        let here = guide.join(name.strip_prefix(GUIDE).expect("a page")).join("index.html");
        let html = read(&here);
        let text = &html[html.find("<main>").expect("the page's own part")..];
        for link in text.split(" href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let is_ours = file.contains("/index.html") || file.ends_with(".rs.html");
            if link.contains("://") || !(file.is_empty() || is_ours) {
                continue; // The web, or rustdoc's own business.
            }
            let there = here.parent().expect("a folder").join(file);
            let there = if file.is_empty() { html.clone() } else { read(there) };
            // In source the anchors are lines, which a script marks.
            let is_there = anchor.is_empty()
                || file.ends_with(".rs.html")
                || there.contains(&format!("id=\"{anchor}\""));
            assert!(is_there, "{}: {link}", page.display());
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked} links");
}

#[test]
fn links_between_pages_become_rustdocs() {
    let check = |page: &str, expected: &str| assert_eq!(build::for_rustdoc(page), expected);
    check("[a](b.md) and [c](d.md#e-f).\n", "[a](../b/index.html) and [c](../d/index.html#e-f).\n");
    check("[a](#b) [c](https://d.example/e.md) f](g", "[a](#b) [c](https://d.example/e.md) f](g");
    check("[a](b/c.md) [d](../e.md#f)", "[a](../b/c/index.html) [d](../../e/index.html#f)");
    let source = "[a](../../../../src/disposable_chat/b/c.rs.html) [d](#the-code)";
    check("[a](../../b/c.rs) [d](d.rs)", source);
    check("```text\n[a](b.md)\n```\n[a](b.md)", "```text\n[a](b.md)\n```\n[a](../b/index.html)");
}

#[test]
fn anchors_are_made_as_on_github() {
    let check = |heading: &str, expected: &str| assert_eq!(slug(heading), expected);
    check("TLS without a proxy", "tls-without-a-proxy");
    check("What is it, and why? (a `--flag`)", "what-is-it-and-why-a---flag");
    check("1.2 · The socket", "12--the-socket");
}

// ---- Code blocks

/// A block without a language would be a doc test. One in Rust is: rustdoc compiles it, also with `no_run`.
#[test]
fn every_code_block_names_its_language() {
    for page in all_pages() {
        for fence in fences(&read(&page)) {
            let (language, first) = (&fence.language, fence.lines.first());
            assert!(!language.is_empty(), "{}: {first:?}", page.display());
            assert!(!language.contains("ignore"), "{}: {language}", page.display());
        }
    }
}

// ---- The README

#[test]
fn the_readme_is_short_and_so_is_the_guide() {
    let lines = |page: &PathBuf| read(page).lines().count();
    let readme = lines(&README.into());
    assert!(readme <= README_LINES_MAX, "{readme} lines");
    let guide: usize = guide_pages().iter().map(lines).sum();
    assert!(guide < GUIDE_LINES_MAX, "{guide} lines");
}

/// The colour schemes of the README's picture, and the sum of the files' sizes.
const SCHEMES: [&str; 2] = ["light", "dark"];
const PICTURE_BYTES_MAX: u64 = 150 * 1024;

/// A forge shows one of them, by the colours of its reader.
#[test]
fn the_readme_shows_a_small_picture_in_both_colour_schemes() {
    let readme = read(README);
    let (_, picture) = readme.split_once("<picture>").expect("a picture");
    let (picture, _) = picture.split_once("</picture>").expect("its end");
    let mut bytes = 0;
    let mut sizes = BTreeSet::new();
    for scheme in SCHEMES {
        let path = format!("{GUIDE}/images/room-{scheme}.png");
        assert!(picture.contains(&format!("=\"{path}\"")), "{path}");
        let png = fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        // The signature, then the first chunk: its length, its name, width and height.
        assert_eq!((&png[..8], &png[12..16]), (&b"\x89PNG\r\n\x1a\n"[..], &b"IHDR"[..]), "{path}");
        sizes.insert(png[16..24].to_vec());
        bytes += u64::try_from(png.len()).expect("a size");
    }
    assert!(bytes <= PICTURE_BYTES_MAX, "{bytes} bytes");
    assert_eq!(sizes.len(), 1, "the page would move with the colours: {sizes:?}");
    assert!(picture.contains("(prefers-color-scheme: dark)") && picture.contains("alt=\""));
    let images = fs::read_dir(format!("{GUIDE}/images")).expect("a folder").count();
    assert_eq!(images, SCHEMES.len(), "no other binary files");
}

/// The table of contents is one line of links to all chapters, in their order.
#[test]
fn the_readme_links_all_its_chapters() {
    let text = read(README);
    let chapters: Vec<_> = prose(&text).filter_map(|line| line.strip_prefix("## ")).collect();
    let listed =
        links(&text).into_iter().filter_map(|link| Some(link.strip_prefix('#')?.to_owned()));
    assert_eq!(listed.collect::<Vec<_>>(), chapters.into_iter().map(slug).collect::<Vec<_>>());
}

#[test]
fn two_commands_are_all_there_is_to_set_up() {
    let fences = fences(&read(README));
    let commands = fences.iter().flat_map(|fence| &fence.lines);
    let commands: Vec<_> = commands.filter(|line| line.starts_with("cargo ")).collect();
    assert_eq!(commands, ["cargo run --release", "cargo test"]);
}

// ---- Operating

/// The rows of the tables of flags: each flag and its default.
#[test]
fn every_flag_has_its_row_with_its_default() {
    let text = read("src/guide/operating.md");
    let rows = prose(&text).filter_map(|line| line.strip_prefix("| `--"));
    let rows = rows.map(|row| {
        let (name, rest) = row.split_once("` | `").expect("a flag and its default");
        (name, rest.split('`').next().unwrap_or_default())
    });
    let rows: BTreeMap<_, _> = rows.collect();
    let flags: BTreeMap<_, _> = FLAGS.iter().map(|flag| (flag.name, flag.default)).collect();
    assert_eq!(rows, flags);
}

/// Where the contract names a default, as in "`--room-ttl` (`120s`)", it is that of the flag.
#[test]
fn the_contract_has_the_defaults_of_the_flags() {
    let text = read("src/guide/contract.md");
    let words: Vec<_> = prose(&text).flat_map(str::split_whitespace).collect();
    let text = words.join(" ").replace("(default ", "(");
    let mut count = 0;
    for flag in FLAGS {
        let (name, form) = (flag.name, format!("`--{}` (`", flag.name));
        for (place, _) in text.match_indices(&form) {
            let default = text[place + form.len()..].split('`').next();
            assert_eq!(default, Some(flag.default), "--{name}");
            count += 1;
        }
    }
    assert!(count > 20, "{count} defaults");
}

/// The table of contract §1.5 lists exactly the codes of the server, each with its status.
#[test]
fn the_contract_lists_all_codes_and_statuses() {
    let text = read("src/guide/contract.md");
    let (_, rest) = text.split_once("| status | codes |").expect("the table");
    let (table, _) = rest.split_once("\n\n").expect("its end");
    let rows = table.lines().filter_map(|row| row.strip_prefix("| ")?.split_once(" | "));
    let listed = rows.flat_map(|(status, codes)| {
        code_spans(codes).0.into_iter().map(move |code| (status.to_owned(), code))
    });
    let listed: BTreeSet<_> = listed.collect();
    let known = Code::ALL.iter().map(|code| (code.status().to_string(), code.as_str()));
    assert_eq!(listed, known.collect());
}

#[test]
fn every_flag_that_is_named_exists() {
    let pages =
        ["cluster", "contract", "operating", "security"].map(|page| format!("{GUIDE}/{page}.md"));
    let mut unknown = Vec::new();
    for page in pages {
        for line in prose(&read(&page)) {
            let spans = code_spans(line).0.into_iter().filter(|span| !span.contains("cargo "));
            let words = spans.flat_map(str::split_whitespace);
            for name in words.filter_map(|word| word.strip_prefix("--")) {
                let name = name.split(|c: char| !c.is_ascii_lowercase() && c != '-').next();
                let name = name.unwrap_or_default();
                let is_known = FLAGS.iter().any(|flag| flag.name == name);
                if !is_known && !["help", "version"].contains(&name) {
                    unknown.push(format!("{page}: --{name}"));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// Every metric of `src/api/metrics.rs` is explained, and every one explained exists.
#[test]
fn every_metric_is_explained() {
    let names = |text: &str| -> BTreeSet<String> {
        let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
        let words = text.split(|c| !is_part(c));
        let is_metric = |word: &&str| word.starts_with("chat_") || word.starts_with("process_");
        words.filter(is_metric).map(str::to_owned).collect()
    };
    let source = read("src/api/metrics.rs");
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let mut in_source = BTreeSet::new();
    for quoted in source.split('"').skip(1).step_by(2).filter(|text| !text.contains(' ')) {
        in_source.extend(names(quoted));
    }
    assert!(in_source.len() > 20, "{in_source:?}");
    assert_eq!(names(&read("src/guide/operating.md")), in_source);
}

// ---- Architecture

/// What stands between quotes in a text, in order.
fn quoted(text: &str, quote: char) -> BTreeSet<String> {
    text.split(quote).skip(1).step_by(2).map(str::to_owned).collect()
}

/// The list that `tests/architecture.rs` enforces: each module, with those that it may import.
fn enforced_imports() -> BTreeMap<String, BTreeSet<String>> {
    let source = read("tests/architecture.rs");
    let (_, list) = source.split_once("const MODULES").expect("a list");
    let (_, list) = list.split_once("= &[").expect("its beginning");
    let (list, _) = list.split_once("\n];").expect("its end");
    let entries = list.split("\n    (").filter_map(|entry| entry.split_once("&["));
    let only = |module| quoted(module, '"').pop_first().expect("a name");
    entries.map(|(module, imports)| (only(module), quoted(imports, '"'))).collect()
}

fn modules_of_source() -> BTreeSet<String> {
    let entries = fs::read_dir("src").expect("tests run at the crate's root");
    let is_module = |path: &PathBuf| {
        let holds_code = |folder: &Path| {
            let mut files = fs::read_dir(folder).expect("a folder").flatten();
            files.any(|file| file.path().extension().is_some_and(|extension| extension == "rs"))
        };
        path.extension().is_some_and(|extension| extension == "rs")
            || path.is_dir() && holds_code(path)
    };
    let paths = entries.map(|entry| entry.expect("an entry").path()).filter(is_module);
    paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// The column of imports is the list that `tests/architecture.rs` enforces, and no module is missing.
#[test]
fn the_module_map_is_the_one_that_is_enforced() {
    let page = read("src/guide/architecture.md");
    let (_, map) = page.split_once("| may import |\n").expect("a map");
    let rows = map.lines().skip(1).take_while(|row| row.starts_with('|'));
    let drawn: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').collect();
            (quoted(cells[1], '`').pop_first().expect("a name"), quoted(cells[3], '`'))
        })
        .collect();
    assert_eq!(drawn, enforced_imports());
    assert_eq!(drawn.into_keys().collect::<BTreeSet<_>>(), modules_of_source());
}

/// The diagram has every module of the running program once, above all that it may import.
#[test]
fn the_diagram_of_modules_stands_above_its_imports() {
    let page = read("src/guide/architecture.md");
    let is_levels = |fence: &Fence| fence.lines.iter().any(|line| line.starts_with(" 1 │ "));
    let diagram = fences(&page).into_iter().find(is_levels).expect("a diagram of levels");
    let mut levels = BTreeMap::new();
    for line in &diagram.lines {
        let cells: Vec<_> = line.split('│').collect();
        let level: usize = cells[0].trim().parse().expect("a level");
        for module in cells[1].split_whitespace() {
            assert!(levels.insert(module, level).is_none(), "{module} comes twice");
        }
    }
    for (module, imports) in enforced_imports() {
        if ["lib", "guide", "build"].contains(&module.as_str()) {
            continue;
        }
        for import in imports {
            let import = import.split("::").next().unwrap_or_default();
            assert!(levels[module.as_str()] > levels[import], "{module} above {import}");
        }
    }
    let modules = modules_of_source();
    let others = levels.keys().find(|module| !modules.contains(**module));
    assert_eq!(others, None, "no module of this name");
}

// ---- Names

/// The pages whose names are looked up, each with a number of names that it has at least.
fn naming_pages() -> Vec<(PathBuf, usize)> {
    let pages = [("architecture", 20), ("traps", 20), ("changing", 10)];
    let pages = pages.map(|(name, count)| (PathBuf::from(format!("{GUIDE}/{name}.md")), count));
    [pages.to_vec(), pages_in(STEPS).into_iter().map(|page| (page, 0)).collect()].concat()
}

/// A step links a file of the source, where other pages name it: as `src/net/link.rs`.
fn with_paths(text: &str) -> String {
    let mut pieces = text.split("](../../");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (path, rest) = piece.split_once(')').expect("a link ends on its line");
        let (before, _) = out.rsplit_once('[').expect("a link begins on its line");
        out = format!("{before}`src/{path}`{rest}");
    }
    out
}

/// Whether the source defines the name: a function, a type, a constant.
fn defines(source: &str, name: &str) -> bool {
    let name = name.rsplit("::").next().unwrap_or_default();
    let kinds = ["fn", "const", "static", "struct", "enum", "trait", "type"];
    kinds.iter().any(|kind| {
        let definition = format!("{kind} {name}");
        source.match_indices(&definition).any(|(at, _)| {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let before = source[..at].chars().next_back();
            let after = source[at + definition.len()..].chars().next();
            !before.is_some_and(is_part) && !after.is_some_and(is_part)
        })
    })
}

/// The names that a text gives with their file: `name` (`file`), `name` in `file`, and lists of names
/// before either.
fn names_with_files(text: &str) -> Vec<(&str, &str)> {
    let pieces: Vec<&str> = text.split('`').collect();
    let is_name = |piece: &str| {
        !piece.is_empty() && piece.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
    };
    let between = |at: usize| pieces[at].split_whitespace().collect::<Vec<_>>().join(" ");
    let mut names = Vec::new();
    for at in (3..pieces.len()).step_by(2).filter(|at| pieces[*at].ends_with(".rs")) {
        let (mut place, mut joints) = (at, &["(", "in"]);
        while place > 2
            && joints.contains(&between(place - 1).as_str())
            && is_name(pieces[place - 2])
        {
            (place, joints) = (place - 2, &[",", "and"]);
            names.push((pieces[place], pieces[at]));
        }
    }
    names
}

#[test]
fn names_are_found_with_their_files() {
    let text = "The `a` (`x.rs`), `x.patch`, `b` and\n`c` and `D::e` in\n`y.rs`, `f` of `z.rs`.";
    let expected = [("a", "x.rs"), ("D::e", "y.rs"), ("c", "y.rs"), ("b", "y.rs")];
    assert_eq!(names_with_files(text), expected);
    let link = with_paths("The `a` in [net/x.rs](../../net/x.rs), `b` (`y.rs`).");
    assert_eq!(names_with_files(&link), [("a", "src/net/x.rs"), ("b", "y.rs")]);
    let source = "pub(super) fn one<T>() {}\nconst TWO_MAX: u8 = 2;\nstruct Three;";
    for name in ["one", "A::one", "TWO_MAX", "Three"] {
        assert!(defines(source, name), "{name}");
    }
    for name in ["on", "TWO", "Thre", "T"] {
        assert!(!defines(source, name), "{name}");
    }
}

/// A name with its file is defined there; a constant without one, and a name of a step, somewhere in the
/// source.
#[test]
fn every_name_is_defined_in_its_file() {
    fn all_of(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                all_of(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&read(&path));
            }
        }
    }
    let mut source = String::new();
    all_of(Path::new("src"), &mut source);
    let mut undefined = Vec::new();
    for (page, count_min) in naming_pages() {
        let text = read(&page);
        let text = with_paths(&prose(&text).collect::<Vec<_>>().join("\n"));
        let (names, is_step) = (names_with_files(&text), page.starts_with(STEPS));
        let page = page.display();
        assert!(names.len() >= count_min, "{page}: {names:?}");
        for (name, file) in names {
            if !Path::new(file).exists() || !defines(&read(file), name) {
                undefined.push(format!("{page}: {name} ({file})"));
            }
        }
        for name in text.split('`').skip(1).step_by(2) {
            let is_constant = name.contains('_')
                && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            // A step names what its program defines, or calls.
            let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
            let is_of_step = is_step && name.contains(['_', ':']) && name.chars().all(is_name);
            let is_called = is_step && source.contains(&format!(".{name}("));
            if (is_constant || is_of_step) && !is_called && !defines(&source, name) {
                undefined.push(format!("{page}: {name}"));
            }
        }
    }
    assert!(undefined.is_empty(), "{undefined:#?}");
}

// ---- Traps

/// Each trap says what happens here, which test shows it, which planted bug the test finds, and where
/// else it happened.
#[test]
fn every_trap_names_a_function_a_test_a_mutation_and_a_public_report() {
    let page = read("src/guide/traps.md");
    let traps: Vec<_> = page.split("\n## ").skip(1).collect();
    assert!(traps.len() >= 24, "{} traps", traps.len());
    for (place, trap) in traps.iter().enumerate() {
        let title = trap.lines().next().unwrap_or_default();
        assert!(title.starts_with(&format!("{}. ", place + 1)), "{title}: its number");
        let (_, rest) =
            trap.split_once("\n- **Here**: ").unwrap_or_else(|| panic!("{title}: here"));
        let (here, rest) =
            rest.split_once("\n- **Test**: ").unwrap_or_else(|| panic!("{title}: test"));
        let (test, elsewhere) =
            rest.split_once("\n- **Elsewhere**: ").unwrap_or_else(|| panic!("{title}: elsewhere"));
        assert!(names_with_files(here).iter().any(|(_, file)| file.starts_with("src/")), "{title}");
        let tests = names_with_files(test);
        assert!(!tests.is_empty(), "{title}: no test");
        for (name, file) in &tests {
            let source = read(file);
            let (before, _) = source.split_once(&format!("fn {name}(")).expect("it is defined");
            let attributes = before.rsplit("\n\n").next().unwrap_or_default();
            assert!(attributes.contains("#[test]"), "{title}: {name} is no test");
        }
        let patches: Vec<_> =
            test.split('`').skip(1).step_by(2).filter(|span| span.ends_with(".patch")).collect();
        assert!(!patches.is_empty(), "{title}: no mutation");
        for patch in patches {
            let text = read(Path::new("tests/sim/mutations").join(patch));
            let caught = text.lines().find_map(|line| line.strip_prefix("Caught by: "));
            let caught = caught.and_then(|path| path.rsplit([':', ' ']).next()).expect("a test");
            assert!(tests.iter().any(|(name, _)| *name == caught), "{title}: {patch}: {caught}");
        }
        let reports = links(elsewhere);
        let is_report = |link: &String| link.contains("/issues/") || link.contains("/pull/");
        assert!(reports.iter().any(is_report), "{title}: {reports:?}");
    }
}
