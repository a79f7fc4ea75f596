//! What browsers are given: the chat's page, the documents of the API and the page made from them.
//!
//! Owns the files, their types and their entity tags, all worked out at compile time. Must never
//! know a request, or where a file is served. The invariant: a tag is a function of the bytes, so
//! whoever shows it has them.

/// One file, ready to be sent.
#[derive(Debug)]
pub struct File {
    pub content: &'static [u8],
    pub content_type: &'static str,
    /// A strong entity tag (RFC 9110 §8.8.3), quotes included.
    pub etag: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";

/// The file of that name beside this one.
macro_rules! file {
    ($name:literal, $content_type:ident) => {{
        const CONTENT: &[u8] = include_bytes!($name);
        const TAG: &[u8] = &tag(CONTENT);
        const ETAG: &str = match std::str::from_utf8(TAG) {
            Ok(text) => text,
            Err(_) => panic!("hexadecimal digits are ASCII"),
        };
        File { content: CONTENT, content_type: $content_type, etag: ETAG }
    }};
}

/// The chat itself; its parts are loaded from beside it.
pub static PAGE: File = file!("page/index.html", HTML);
/// The page's parts by name, in `page/`.
pub static PAGE_PARTS: &[(&str, File)] = &[
    ("page.css", file!("page/page.css", STYLE)),
    ("main.js", file!("page/main.js", SCRIPT)),
    ("lobby.js", file!("page/lobby.js", SCRIPT)),
    ("doors.js", file!("page/doors.js", SCRIPT)),
    ("room.js", file!("page/room.js", SCRIPT)),
    ("log.js", file!("page/log.js", SCRIPT)),
    ("talk.js", file!("page/talk.js", SCRIPT)),
    ("line.js", file!("page/line.js", SCRIPT)),
    ("rest.js", file!("page/rest.js", SCRIPT)),
    ("store.js", file!("page/store.js", SCRIPT)),
    ("signals.js", file!("page/signals.js", SCRIPT)),
    ("words.js", file!("page/words.js", SCRIPT)),
    ("dom.js", file!("page/dom.js", SCRIPT)),
    ("qr.js", file!("page/qr.js", SCRIPT)),
];

/// The API's REST half, in OpenAPI 3.1.
pub static OPENAPI: File = file!("openapi.json", JSON);
/// The API's socket, in AsyncAPI 3.0.
pub static ASYNCAPI: File = file!("asyncapi.json", JSON);
/// The page that makes both readable and runnable.
pub static DOCS: File = file!("docs.html", HTML);
pub static DOCS_SCRIPT: File = file!("docs.js", SCRIPT);
pub static DOCS_STYLE: File = file!("docs.css", STYLE);

/// 64 bits of FNV-1a. It tells our own versions apart; nobody gains by a collision.
const fn tag(content: &[u8]) -> [u8; 18] {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < content.len() {
        hash = (hash ^ content[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    let mut tag = [b'"'; 18];
    let mut digit = 1;
    while digit <= 16 {
        hash = hash.rotate_left(4);
        tag[digit] = b"0123456789abcdef"[(hash & 0xf) as usize];
        digit += 1;
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_hash_in_quotes() {
        // The published test vectors of FNV-1a.
        assert_eq!(&tag(b""), b"\"cbf29ce484222325\"");
        assert_eq!(&tag(b"foobar"), b"\"85944171f73967e8\"");
        assert_eq!(OPENAPI.etag.as_bytes(), tag(OPENAPI.content));
    }

    #[test]
    fn every_file_has_its_own() {
        let mut tags =
            [&PAGE, &OPENAPI, &ASYNCAPI, &DOCS, &DOCS_SCRIPT, &DOCS_STYLE].map(|f| f.etag).to_vec();
        tags.extend(PAGE_PARTS.iter().map(|(_, part)| part.etag));
        tags.sort_unstable();
        assert!(tags.windows(2).all(|two| two[0] != two[1]), "{tags:?}");
    }
}
