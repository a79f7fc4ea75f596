//! The guide for rustdoc. Owns how links between its pages are rewritten. Must not know what a page
//! says. The invariant: code blocks stay as they are. `tests/guide.rs` includes this file.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Writes each page in `from` into `to`, subfolders included, with its links rewritten for rustdoc.
/// Returns the pages that it has read.
pub fn link(from: &Path, to: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(to)?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            pages.extend(link(&path, &to.join(name))?);
        } else if path.extension() == Some("md".as_ref()) {
            fs::write(to.join(name), for_rustdoc(&fs::read_to_string(&path)?))?;
            pages.push(path);
        }
    }
    Ok(pages)
}

/// The page with its links rewritten. Code blocks stay as they are.
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
/// module there, `guide::PAGE`, and so lies one folder deeper.
///
/// A page about an example ends with the example's code. Other Rust files are linked as
/// `../` up to `src`, and the path from there: rustdoc shows them below `src/CRATE`.
fn rustdoc_target(target: &str) -> String {
    if target.contains("://") {
        return target.to_owned();
    }
    let (file, anchor) = target.split_at(target.find('#').unwrap_or(target.len()));
    if let Some(page) = file.strip_suffix(".md") {
        return format!("../{page}/index.html{anchor}");
    }
    if !file.ends_with(".rs") {
        return target.to_owned();
    }
    let path = file.trim_start_matches("../");
    let up = &file[..file.len() - path.len()];
    if up.is_empty() {
        return "#the-code".to_owned();
    }
    format!("../{up}../src/disposable_chat/{path}.html")
}
