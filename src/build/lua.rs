//! The functions of the store, as they are loaded. Owns which parts of a Lua source mean nothing. Must
//! not know what a function does. The invariant: the text means the same, and each line keeps its
//! number, so that an error in the store names a line of the source. `tests/cluster` includes this file.

/// The source without comments and indentation. Comments of several lines begin and end with a line.
///
/// # Errors
///
/// If the source uses a form of string that is not known here.
pub fn strip(source: &str) -> Result<String, String> {
    let mut stripped = String::with_capacity(source.len());
    let mut is_comment = false;
    for (number, line) in source.lines().enumerate() {
        is_comment |= line.starts_with("--[[");
        if !is_comment {
            stripped.push_str(code(line).ok_or_else(|| format!("line {}: {line}", number + 1))?);
        }
        is_comment &= line != "]]";
        stripped.push('\n');
    }
    Ok(stripped)
}

/// The part of a line that is no comment. `None`: a string of several lines begins in it.
fn code(line: &str) -> Option<&str> {
    let (mut quote, mut is_escaped) = (None, false);
    for (at, byte) in line.bytes().enumerate() {
        let follows = |what| line.get(at..).is_some_and(|rest| rest.starts_with(what));
        match quote {
            None if follows("--") => return Some(line[..at].trim()),
            None if follows("[[") || follows("[=") => return None,
            None if byte == b'\'' || byte == b'"' => quote = Some(byte),
            Some(_) if is_escaped => is_escaped = false,
            Some(_) if byte == b'\\' => is_escaped = true,
            Some(end) if byte == end => quote = None,
            _ => {}
        }
    }
    quote.is_none().then(|| line.trim())
}
