//! The build script: prepares the files for browsers, the store's functions and the guide, in `OUT_DIR`.
//!
//! Owns one flag of the linker, and how files are minified and compressed by gzip (RFC 1952). Must not know where a file is served. The invariant: the output contains no
//! local path and no time, so the same files give the same bytes on every machine.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use minifier::{css, js};
use zopfli::{Format, Options};

mod guide;
mod lua;
mod page;

/// What the store is to do for servers of the feature `cluster`.
const FUNCTIONS: &str = "src/cluster/functions.lua";

fn main() -> io::Result<()> {
    // Not all of src/guide: an example there is not compiled into the crate.
    for path in ["src/web", "src/guide/mod.rs", FUNCTIONS] {
        writeln!(io::stdout(), "cargo::rerun-if-changed={path}")?;
    }
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    let out = Path::new(&out);
    let page = page::join(Path::new("src/web/page"))?;
    compress(Path::new("src/web"), out, &page.sources)?;
    for (name, script) in &page.scripts {
        write(&out.join("page"), name, script)?;
    }
    if env::var_os("CARGO_FEATURE_CLUSTER").is_some() {
        write(out, "functions.lua", &fs::read_to_string(FUNCTIONS)?)?;
    }
    for page in guide::link(Path::new("src/guide"), &out.join("guide"))? {
        writeln!(io::stdout(), "cargo::rerun-if-changed={}", page.display())?;
    }
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

/// Writes each file in `from` into `to` as it is served, subfolders included. Modules that are part
/// of a joined script are not written by themselves.
fn compress(from: &Path, to: &Path, joined: &BTreeSet<PathBuf>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_dir() {
            compress(&path, &to.join(name), joined)?;
        } else if !name.ends_with(".rs") && !joined.contains(&path) {
            write(to, name, &fs::read_to_string(&path)?)?;
        }
    }
    Ok(())
}

/// Writes a file as it is served or loaded, and compressed as `.gz`. Scripts and style sheets are written
/// without comments, and without white space that has no meaning.
fn write(to: &Path, name: &str, text: &str) -> io::Result<()> {
    let minified = match name.rsplit_once('.') {
        Some((_, "js")) => js::minify(text).map(|script| script.to_string()).map_err(String::from),
        // The last declaration of a rule needs no semicolon.
        Some((_, "css")) => css::minify(text)
            .map(|style| style.to_string().replace(";}", "}"))
            .map_err(String::from),
        Some((_, "lua")) => lua::strip(text),
        _ => Ok(text.to_owned()),
    };
    let content = minified.map_err(|error| io::Error::other(format!("{name}: {error}")))?;
    fs::write(to.join(name), &content)?;
    let mut compressed = Vec::new();
    zopfli::compress(Options::default(), Format::Gzip, content.as_bytes(), &mut compressed)?;
    fs::write(to.join(format!("{name}.gz")), compressed)
}
