//! The build script: prepares the embedded files and the guide for `OUT_DIR`.
//!
//! Owns two conversions and one flag of the linker. The files for browsers in `src/web` are
//! compressed by gzip (RFC 1952), the modules of the page without comments. The pages in `src/guide`
//! link to each other by file name, as code hosting sites expect, and these links are rewritten for
//! rustdoc. Must not know what a file contains or where it is served. The invariant: the output
//! contains no local path and no time, so the same files give the same bytes
//! on every machine.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use zopfli::{Format, Options};

fn main() -> io::Result<()> {
    for folder in ["src/web", "src/guide"] {
        writeln!(io::stdout(), "cargo::rerun-if-changed={folder}")?;
    }
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    let out = Path::new(&out);
    compress(Path::new("src/web"), out)?;
    link(Path::new("src/guide"), &out.join("guide"))?;
    if loads_packed_relocations() {
        writeln!(io::stdout(), "cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs")?;
    }
    Ok(())
}

/// Whether the program is built for this machine, and its C library loads relative relocations in
/// the packed form (`DT_RELR`), which is 30 KB smaller. glibc does so from version 2.36 on; an older
/// one would refuse to start the program. A linker that does not know the flag ignores it.
fn loads_packed_relocations() -> bool {
    let is_native = env::var_os("HOST") == env::var_os("TARGET");
    let version = || {
        let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    is_native && version().is_some_and(|version: (u32, u32)| version >= (2, 36))
}

/// A module without indentation and without the comments that have lines of their own, which are a
/// fifth of what would be sent. Lines keep their numbers, so that an error names a line of the
/// source. The modules must not have template literals of several lines.
fn condensed(module: &[u8]) -> Vec<u8> {
    let lines = module.split(|byte| *byte == b'\n').map(|line| {
        let line = line.trim_ascii_start();
        if line.starts_with(b"//") { b"" } else { line }
    });
    lines.collect::<Vec<_>>().join(&b'\n')
}

/// Writes each file in `from` into `to` as it is served, and compressed as `.gz`, subfolders
/// included.
fn compress(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_dir() {
            compress(&path, &to.join(name))?;
        } else if !name.ends_with(".rs") {
            let is_page_part = name == "client.js" || to.ends_with("page") && name.ends_with(".js");
            let content = fs::read(&path)?;
            let content = if is_page_part { condensed(&content) } else { content };
            fs::write(to.join(name), &content)?;
            let mut compressed = Vec::new();
            zopfli::compress(Options::default(), Format::Gzip, &*content, &mut compressed)?;
            fs::write(to.join(format!("{name}.gz")), compressed)?;
        }
    }
    Ok(())
}

/// Writes each page in `from` into `to`, with its links rewritten for rustdoc.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) =
            path.file_name().filter(|name| Path::new(name).extension() == Some("md".as_ref()))
        else {
            continue;
        };
        fs::write(to.join(name), for_rustdoc(&fs::read_to_string(&path)?))?;
    }
    Ok(())
}

/// The page with its links rewritten. Code blocks stay as they are.
///
/// Public for `tests/guide.rs`, which includes this file.
pub fn for_rustdoc(page: &str) -> String {
    let mut is_code = false;
    let mut rewritten = String::with_capacity(page.len());
    for line in page.split_inclusive('\n') {
        is_code ^= line.starts_with("```");
        let mut pieces = line.split("](");
        rewritten.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            rewritten.push_str("](");
            match piece.split_once(')') {
                Some((target, rest)) if !is_code => {
                    rewritten.push_str(&rustdoc_target(target));
                    rewritten.push(')');
                    rewritten.push_str(rest);
                }
                _ => rewritten.push_str(piece),
            }
        }
    }
    rewritten
}

/// The target of a link in rustdoc's output, relative to the page with the link. Each page is a
/// module there, `guide::PAGE`.
fn rustdoc_target(target: &str) -> String {
    let (file, anchor) = target.split_at(target.find('#').unwrap_or(target.len()));
    match file.strip_suffix(".md") {
        Some(page) if !file.contains("://") => format!("../{page}/index.html{anchor}"),
        _ => target.to_owned(),
    }
}
