//! Routes of files: the chat's page, the documents of this API, and the page made of those.
//!
//! Owns how a file is sent, compressed or not, and when it need not be. Must never know what is in
//! one. The invariant: nothing that is served here may run or load what isn't served here, too.

use bytes::Bytes;

use super::call::{Call, Outcome};
use super::error::{Code, Error};
use crate::http::{Request, Response};
use crate::web::{self, File};

/// What the pages may do: their own scripts, styles and connections, and nothing inline. `data:` is
/// the icon, which shows whether something was said meanwhile.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`.
pub fn page(call: &mut Call<'_>) -> Outcome {
    Ok(file(call.request, &web::PAGE))
}

/// `GET /page/{file}`.
pub fn page_part(call: &mut Call<'_>) -> Outcome {
    let part = web::PAGE_PARTS.iter().find(|(name, _)| *name == call.segment);
    let (_, part) = part.ok_or_else(nothing_here)?;
    Ok(file(call.request, part))
}

/// `GET /openapi.json`.
pub fn openapi(call: &mut Call<'_>) -> Outcome {
    Ok(file(call.request, &web::OPENAPI))
}

/// `GET /asyncapi.json`.
pub fn asyncapi(call: &mut Call<'_>) -> Outcome {
    Ok(file(call.request, &web::ASYNCAPI))
}

/// `GET /docs`.
pub fn docs(call: &mut Call<'_>) -> Outcome {
    Ok(file(call.request, &web::DOCS))
}

/// `GET /docs.js`.
pub fn script(call: &mut Call<'_>) -> Outcome {
    Ok(file(call.request, &web::DOCS_SCRIPT))
}

/// `GET /docs.css`.
pub fn style(call: &mut Call<'_>) -> Outcome {
    Ok(file(call.request, &web::DOCS_STYLE))
}

/// `GET /docs/{file}`: what that page asks for when it was itself asked for as `/docs/`. Its links
/// are relative, for the sake of prefixes, and a final slash gives them another meaning.
pub fn docs_file(call: &mut Call<'_>) -> Outcome {
    match &*call.segment {
        "docs.js" => script(call),
        "docs.css" => style(call),
        "openapi.json" => openapi(call),
        "asyncapi.json" => asyncapi(call),
        _ => Err(nothing_here()),
    }
}

fn nothing_here() -> Error {
    Error::new(Code::NotFound, "There is nothing at this path.")
}

/// `no-cache`: a browser may keep it, and asks each time whether it is still the same.
fn file(request: &Request, file: &'static File) -> Response {
    let is_compressed = request.prefers_gzip();
    // RFC 9110 §8.8.3.3: the tag is that of the form that would be sent, and no other is known, or
    // whoever keeps both would take the one for the other.
    let etag = if is_compressed { file.compressed_etag } else { file.etag };
    let known = is_known(request, etag);
    let response = Response::new(if known { 304 } else { 200 })
        .with("ETag", etag)
        .with("Cache-Control", "no-cache")
        .with("Vary", "Accept-Encoding");
    if known {
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

/// RFC 9110 §13.1.2: `If-None-Match` names it, be it weakly, or anything at all.
fn is_known(request: &Request, etag: &str) -> bool {
    let tags = request.fields("If-None-Match").flat_map(|list| list.split(|byte| *byte == b','));
    tags.map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}
