//! Routes of files: the chat page, the API documents, and the page that displays them.
//!
//! Owns the header fields of a file's response, the choice of its coding, and its revalidation.
//! Must not know what a file contains. The invariant: the security policy lets a page load and run
//! only files that this server serves.

use bytes::Bytes;

use super::call::Call;
use super::error::{self, Error};
use crate::http::{Request, Response, list_members};
use crate::web::{self, File};

/// The content security policy of the pages: scripts, styles and connections of their own origin,
/// nothing inline. `data:` is for the icon that marks unread messages.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /page/{file}`.
pub fn page_part(call: &Call<'_>) -> Result<Response, Error> {
    let part = web::PAGE_PARTS.iter().find(|(name, _)| *name == call.segment);
    let (_, part) = part.ok_or_else(error::no_such_path)?;
    Ok(response(call.request, part))
}

/// `GET /docs/{file}`: the files that the page at `/docs` loads when it was requested as `/docs/`.
/// The page's links are relative, so that they work behind any path prefix of a proxy, and the
/// final slash changes what they resolve to.
pub fn docs_file(call: &Call<'_>) -> Result<Response, Error> {
    let file = match &*call.segment {
        "docs.js" => &web::DOCS_SCRIPT,
        "docs.css" => &web::DOCS_STYLE,
        "openapi.json" => &web::OPENAPI,
        "asyncapi.json" => &web::ASYNCAPI,
        _ => return Err(error::no_such_path()),
    };
    Ok(response(call.request, file))
}

/// `file` in the coding that the request prefers, or a 304. With `no-cache` a browser may keep the
/// file, but asks at each use whether it has changed.
pub fn response(request: &Request, file: &'static File) -> Response {
    let is_compressed = request.prefers_gzip();
    // RFC 9110 §8.8.3.3: each coding has a tag of its own. Only the tag of the coding that would be
    // sent gives a 304, so that a cache with both does not confuse them.
    let etag = if is_compressed { file.compressed_etag } else { file.etag };
    let is_known = has_tag(request, etag);
    let response = Response::new(if is_known { 304 } else { 200 })
        .with("ETag", etag)
        .with("Cache-Control", "no-cache")
        .with("Vary", "Accept-Encoding");
    if is_known {
        return response;
    }
    let mut response = response
        .with("Content-Type", file.content_type)
        .with("X-Content-Type-Options", "nosniff")
        .with("Referrer-Policy", "no-referrer")
        .with("Content-Security-Policy", POLICY);
    if is_compressed {
        response.body.push(Bytes::from_static(file.compressed));
        return response.with("Content-Encoding", "gzip");
    }
    response.body.push(Bytes::from(file.content()));
    response
}

/// RFC 9110 §13.1.2: whether `If-None-Match` has the tag, compared weakly, or is `*`.
fn has_tag(request: &Request, etag: &str) -> bool {
    let mut tags = request.fields("If-None-Match").flat_map(list_members);
    tags.any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}
