//! The files for browsers: the chat page, the API documents, and the page that shows them.
//!
//! Owns the files, their content types, and their entity tags, which are computed at compile time.
//! The build script joins the page's modules, minifies scripts and style sheets and compresses all
//! files, and only the compressed form is embedded. Must not know requests, or the paths at which
//! the files are served. The invariant: an entity tag is a function of the bytes, so a client that
//! sends a current tag has the current file.

use crate::packed;

/// One file in two forms, each with a strong entity tag (RFC 9110 §8.8.3). The tags include their
/// quotes.
#[derive(Debug)]
pub struct File {
    pub content_type: &'static str,
    /// The tag of the uncompressed content.
    pub etag: &'static str,
    /// The content compressed by gzip, ready to be sent.
    pub compressed: &'static [u8],
    pub compressed_etag: &'static str,
}

impl File {
    /// The uncompressed content. It is decompressed at each call (16 µs for the largest file).
    /// Calls are rare, because browsers accept gzip, and embedding both forms would make the binary
    /// larger.
    pub fn content(&self) -> Vec<u8> {
        packed::unpack(self.compressed)
    }
}

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";
/// What TypeScript has no registered type for. Deno goes by the file's extension then.
const TEXT: &str = "text/plain; charset=utf-8";
const MANIFEST: &str = "application/manifest+json";
const ICON: &str = "image/svg+xml";

/// Builds a [`File`] from the file of that name in this folder.
macro_rules! file {
    ($name:literal, $content_type:ident) => {{
        // Used in constants only, so it is not embedded.
        const CONTENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/", $name));
        const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz"));
        const TAGS: [[u8; 18]; 2] = [tag(CONTENT), tag(COMPRESSED)];
        File {
            content_type: $content_type,
            etag: text(&TAGS[0]),
            compressed: COMPRESSED,
            compressed_etag: text(&TAGS[1]),
        }
    }};
}

/// The chat page, which loads its parts from `page/`.
pub static PAGE: File = file!("page/index.html", HTML);
/// The parts of the page, by name.
pub static PAGE_PARTS: &[(&str, File)] = &[
    ("page.css", file!("page/page.css", STYLE)),
    ("main.js", file!("page/main.js", SCRIPT)),
    ("extras.js", file!("page/extras.js", SCRIPT)),
    ("qr.js", file!("page/qr.js", SCRIPT)),
    ("en.js", file!("page/en.js", SCRIPT)),
    ("pt.js", file!("page/pt.js", SCRIPT)),
    ("es.js", file!("page/es.js", SCRIPT)),
    ("app.webmanifest", file!("page/app.webmanifest", MANIFEST)),
    ("icon.svg", file!("page/icon.svg", ICON)),
];

/// The client module, which the page imports and other programs may import, and its types.
pub static CLIENT: File = file!("client.js", SCRIPT);
pub static CLIENT_TYPES: File = file!("client.d.ts", TEXT);

/// The service worker, whose path decides which pages it serves.
pub static WORKER: File = file!("sw.js", SCRIPT);

/// The REST API, in OpenAPI 3.1.
pub static OPENAPI: File = file!("openapi.json", JSON);
/// The WebSocket API, in AsyncAPI 3.0.
pub static ASYNCAPI: File = file!("asyncapi.json", JSON);
/// The page that displays both documents, with forms that send requests.
pub static DOCS: File = file!("docs.html", HTML);
pub static DOCS_SCRIPT: File = file!("docs.js", SCRIPT);
pub static DOCS_STYLE: File = file!("docs.css", STYLE);

/// The 64-bit FNV-1a hash in quotes. It distinguishes versions of our own files, so it need not
/// resist deliberate collisions.
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

const fn text(tag: &[u8]) -> &str {
    match std::str::from_utf8(tag) {
        Ok(text) => text,
        Err(_) => panic!("hexadecimal digits are ASCII"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_quoted_fnv_1a_hash() {
        // Published test vectors of FNV-1a.
        assert_eq!(&tag(b""), b"\"cbf29ce484222325\"");
        assert_eq!(&tag(b"foobar"), b"\"85944171f73967e8\"");
        assert_eq!(OPENAPI.etag.as_bytes(), tag(&OPENAPI.content()));
        assert_eq!(OPENAPI.compressed_etag.as_bytes(), tag(OPENAPI.compressed));
    }

    fn files() -> Vec<(String, &'static File)> {
        let named = [
            ("page/index.html", &PAGE),
            ("client.js", &CLIENT),
            ("sw.js", &WORKER),
            ("client.d.ts", &CLIENT_TYPES),
            ("openapi.json", &OPENAPI),
            ("asyncapi.json", &ASYNCAPI),
            ("docs.html", &DOCS),
            ("docs.js", &DOCS_SCRIPT),
            ("docs.css", &DOCS_STYLE),
        ];
        let parts = PAGE_PARTS.iter().map(|(name, part)| (format!("page/{name}"), part));
        named.into_iter().map(|(name, file)| (name.to_owned(), file)).chain(parts).collect()
    }

    #[test]
    fn each_form_of_each_file_has_its_own_tag() {
        let tags = files().into_iter().flat_map(|(_, file)| [file.etag, file.compressed_etag]);
        let mut tags: Vec<_> = tags.collect();
        tags.sort_unstable();
        assert!(tags.windows(2).all(|two| two[0] != two[1]), "{tags:?}");
    }

    #[test]
    fn decompressing_restores_each_file() {
        for (name, file) in files() {
            let path = format!("{}/{name}", env!("OUT_DIR"));
            let written = std::fs::read(path).expect("the build script wrote it");
            assert!(file.content() == written, "{name}");
            assert!(file.compressed.len() < written.len(), "{name}");
        }
    }
}
