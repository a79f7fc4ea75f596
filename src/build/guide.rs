//! The guide for rustdoc. Owns how links between its pages are rewritten. Must not know what a page
//! says. The invariant: code blocks stay as they are. `tests/guide.rs` includes this file.

use std::path::Path;
use std::{fs, io};

/// Writes each page in `from` into `to`, with its links rewritten for rustdoc.
pub fn link(from: &Path, to: &Path) -> io::Result<()> {
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
