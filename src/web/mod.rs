//! What browsers are given: the documents of the API and the page made from them, as files.
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

/// The file of that name beside this one.
macro_rules! file {
    ($name:literal, $content_type:literal) => {{
        const CONTENT: &[u8] = include_bytes!($name);
        const TAG: &[u8] = &tag(CONTENT);
        const ETAG: &str = match std::str::from_utf8(TAG) {
            Ok(text) => text,
            Err(_) => panic!("hexadecimal digits are ASCII"),
        };
        File { content: CONTENT, content_type: $content_type, etag: ETAG }
    }};
}

/// The API's REST half, in OpenAPI 3.1.
pub static OPENAPI: File = file!("openapi.json", "application/json");
/// The API's socket, in AsyncAPI 3.0.
pub static ASYNCAPI: File = file!("asyncapi.json", "application/json");
/// The page that makes both readable and runnable.
pub static DOCS: File = file!("docs.html", "text/html; charset=utf-8");
pub static DOCS_SCRIPT: File = file!("docs.js", "text/javascript; charset=utf-8");
pub static DOCS_STYLE: File = file!("docs.css", "text/css; charset=utf-8");

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
        let mut tags = [&OPENAPI, &ASYNCAPI, &DOCS, &DOCS_SCRIPT, &DOCS_STYLE].map(|f| f.etag);
        tags.sort_unstable();
        assert!(tags.windows(2).all(|two| two[0] != two[1]), "{tags:?}");
    }
}
