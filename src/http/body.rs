//! The content of a request: its framing and decoding.
//!
//! Owns RFC 9112 §6 and §7.1. Must not know what the content is for. The invariant: content never
//! exceeds `body_bytes_max`, and memory is reserved only for bytes that have arrived, whatever
//! length or chunk size is declared.
//!
//! `httparse::parse_chunk_size` is not used, because it needs the whole chunk line in one buffer,
//! reads an empty line as the last chunk, and accepts white space before the line end, a bare LF,
//! and extensions of any length with any bytes in them.

use super::grammar::{eq_ignore_case, is_token, list_members};
use super::head;
use super::limits::HttpLimits;
use super::reject::Reject;
use super::request::{Request, Version};
use super::section::{Section, append};

/// Limit on the chunk extensions of one body in bytes, semicolons and white space included.
///
/// This bounds all framing: n bytes of content have at most n chunks and a last one, each with at
/// most [`SIZE_DIGITS_MAX`] digits and two line ends. That is at most 20 bytes of framing per byte
/// of content, plus these extensions, plus trailers within the limits of a head.
const EXTENSION_BYTES_MAX: usize = 4096;

/// Limit on the digits of one chunk size, leading zeros included. A `u64` has at most 16.
const SIZE_DIGITS_MAX: u8 = 16;

const SIZE: Reject = Reject::BadRequest("A chunk size is not a hexadecimal number.");
const SIZE_EMPTY: Reject = Reject::BadRequest("A chunk size is missing.");
const SIZE_LONG: Reject = Reject::BadRequest("A chunk size has too many digits.");
const SIZE_SPACE: Reject =
    Reject::BadRequest("White space after a chunk size is not followed by an extension.");
const EXTENSION: Reject = Reject::BadRequest("A chunk extension contains a control character.");
const EXTENSIONS: Reject = Reject::BadRequest("The chunk extensions are too long.");
const LINE_END: Reject = Reject::BadRequest("A chunk line does not end in CRLF.");
const DATA_END: Reject = Reject::BadRequest("A chunk's data is not followed by CRLF.");

/// Decodes the content of one request.
pub(super) enum BodyDecoder {
    /// Framed by `Content-Length`. Invariant: `left`, the bytes still to come, plus the content so
    /// far is at most `body_bytes_max`, checked in [`framing`].
    Length { left: usize },
    Chunked {
        part: ChunkPart,
        /// ≤ [`EXTENSION_BYTES_MAX`].
        extension_bytes: usize,
    },
}

/// The part of a chunked body that the next byte belongs to.
pub(super) enum ChunkPart {
    Framing(ChunkLine),
    /// The data of a chunk. `left`, the bytes still to come, is never 0.
    Data {
        left: usize,
    },
    Trailers(Section),
}

/// The position of the next byte within a chunk's framing.
#[derive(Clone, Copy)]
pub(super) enum ChunkLine {
    Size {
        size: u64,
        digits: u8,
    },
    /// White space between size and extension.
    Space {
        size: u64,
    },
    Extension {
        size: u64,
    },
    /// The line feed of the line with the size.
    SizeLf {
        size: u64,
    },
    /// The carriage return after a chunk's data.
    DataCr,
    DataLf,
}

const NEXT_SIZE: ChunkLine = ChunkLine::Size { size: 0, digits: 0 };

/// How the content is framed (RFC 9112 §6.3); `None` if there is none.
///
/// RFC 9112 §6.3 allows a server to repair some of what is refused here, such as a length together
/// with chunks, or the length `5, 5`. A repair is safe only if every proxy on the way makes the
/// same repair, which a server cannot know.
pub(super) fn framing(
    request: &Request,
    limits: &HttpLimits,
) -> Result<Option<BodyDecoder>, Reject> {
    let mut codings = request.fields("Transfer-Encoding");
    let mut lengths = request.fields("Content-Length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(None),
        // RFC 9112 §6.1: an HTTP/1.0 peer, or a proxy that forwards as one, does not know the
        // chunked coding.
        (Some(_), _) if request.version() == Version::Http10 => {
            Err(Reject::BadRequest("HTTP/1.0 has no Transfer-Encoding."))
        }
        (Some(_), Some(_)) => {
            Err(Reject::BadRequest("The request has both Content-Length and Transfer-Encoding."))
        }
        (Some(coding), None) if is_chunked(coding) && codings.next().is_none() => {
            let part = ChunkPart::Framing(NEXT_SIZE);
            Ok(Some(BodyDecoder::Chunked { part, extension_bytes: 0 }))
        }
        (Some(_), None) => Err(refusal_of_codings(request)),
        (None, Some(length)) => {
            if lengths.next().is_some() {
                return Err(Reject::BadRequest("There is more than one Content-Length field."));
            }
            let length = parse_length(length)?;
            let length = usize::try_from(length).map_err(|_| Reject::BodyTooLarge)?;
            if length > limits.body_bytes_max {
                return Err(Reject::BodyTooLarge);
            }
            Ok((length > 0).then_some(BodyDecoder::Length { left: length }))
        }
    }
}

fn is_chunked(coding: &[u8]) -> bool {
    eq_ignore_case(coding, b"chunked")
}

/// Why the codings of a request are refused. After either answer the connection is closed, because a
/// coding that only some recipients know is a common means of smuggling.
fn refusal_of_codings(request: &Request) -> Reject {
    let (mut is_list, mut is_last) = (true, false);
    for member in request.fields("Transfer-Encoding").flat_map(list_members) {
        let name = member.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        // RFC 9112 §6.1: chunked is applied once, at the end.
        is_list &= !is_last && std::str::from_utf8(name).is_ok_and(is_token);
        is_last = is_chunked(member);
    }
    match is_list && is_last {
        true => Reject::UnknownCoding,
        false => Reject::BadRequest(
            "The transfer codings are no list that ends in its only \"chunked\".",
        ),
    }
}

/// RFC 9110 §8.6: decimal digits only. `str::parse` would accept a leading `+`.
fn parse_length(value: &[u8]) -> Result<u64, Reject> {
    if value.is_empty() {
        return Err(Reject::BadRequest("Content-Length is empty."));
    }
    value.iter().try_fold(0u64, |length, byte| {
        if !byte.is_ascii_digit() {
            return Err(Reject::BadRequest("Content-Length is not a decimal number."));
        }
        length
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u64::from(byte - b'0')))
            .ok_or(Reject::BadRequest("Content-Length is too large for a 64-bit number."))
    })
}

impl BodyDecoder {
    /// Bytes of heap in use, the content not included.
    pub(super) fn bytes(&self) -> usize {
        match self {
            BodyDecoder::Chunked { part: ChunkPart::Trailers(section), .. } => section.bytes(),
            _ => 0,
        }
    }

    /// Moves content from the front of `input` to the end of `content`. Returns true if the content
    /// is complete.
    pub(super) fn feed(
        &mut self,
        input: &mut &[u8],
        content: &mut Vec<u8>,
        limits: &HttpLimits,
    ) -> Result<bool, Reject> {
        let (part, extension_bytes) = match self {
            BodyDecoder::Length { left } => {
                take(input, left, content, limits);
                return Ok(*left == 0);
            }
            BodyDecoder::Chunked { part, extension_bytes } => (part, extension_bytes),
        };
        loop {
            match part {
                ChunkPart::Data { left } => {
                    take(input, left, content, limits);
                    if *left > 0 {
                        return Ok(false);
                    }
                    *part = ChunkPart::Framing(ChunkLine::DataCr);
                }
                ChunkPart::Framing(line) => {
                    let Some((&byte, rest)) = input.split_first() else { return Ok(false) };
                    *input = rest;
                    let bytes_max = limits.body_bytes_max.saturating_sub(content.len());
                    *part = after(*line, byte, bytes_max, extension_bytes)?;
                }
                ChunkPart::Trailers(section) => {
                    let Some(trailers) = section.feed(input, limits)? else { return Ok(false) };
                    // RFC 9110 §6.5.1 allows trailers to be discarded. Merging them with the fields
                    // would let a trailer change the framing. They still have to be well formed.
                    head::check_trailers(&trailers)?;
                    return Ok(true);
                }
            }
        }
    }
}

/// Moves up to `left` bytes from `input` to `content`.
fn take(input: &mut &[u8], left: &mut usize, content: &mut Vec<u8>, limits: &HttpLimits) {
    let (piece, rest) = input.split_at(input.len().min(*left));
    append(content, piece, limits.body_bytes_max);
    *left -= piece.len();
    *input = rest;
}

/// The part that follows `byte` (RFC 9112 §7.1). The content may still grow by `bytes_max` bytes.
fn after(
    line: ChunkLine,
    byte: u8,
    bytes_max: usize,
    extension_bytes: &mut usize,
) -> Result<ChunkPart, Reject> {
    use ChunkLine::{DataCr, DataLf, Extension, Size, SizeLf, Space};
    if matches!((line, byte), (Size { .. } | Space { .. }, b' ' | b'\t' | b';'))
        || matches!((line, byte), (Extension { .. }, 0x20.. | b'\t'))
    {
        // RFC 9112 §7.1.1: the total length of extensions must be limited.
        if *extension_bytes >= EXTENSION_BYTES_MAX {
            return Err(EXTENSIONS);
        }
        *extension_bytes += 1;
    }
    Ok(ChunkPart::Framing(match (line, byte) {
        (Size { digits: 0, .. }, b'\r' | b'\n' | b';' | b' ' | b'\t') => return Err(SIZE_EMPTY),
        (Size { size, .. } | Extension { size }, b'\r') => SizeLf { size },
        (Size { size, .. } | Space { size }, b';') => Extension { size },
        // RFC 9112 §7.1.1: white space belongs to an extension, so an extension must follow.
        (Size { size, .. } | Space { size }, b' ' | b'\t') => Space { size },
        (Size { .. } | Extension { .. }, b'\n') => return Err(LINE_END),
        (Size { size, digits }, _) => {
            let digit = char::from(byte).to_digit(16).ok_or(SIZE)?;
            if digits >= SIZE_DIGITS_MAX {
                return Err(SIZE_LONG);
            }
            Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
        }
        (Space { .. }, _) => return Err(SIZE_SPACE),
        // Extensions are ignored, so their inner grammar is not checked. Control characters are
        // refused, because recipients could disagree about where such a line ends.
        (Extension { .. }, ..=0x08 | 0x0b..=0x1f | 0x7f) => return Err(EXTENSION),
        (Extension { size }, _) => Extension { size },
        (SizeLf { size: 0 }, b'\n') => return Ok(ChunkPart::Trailers(Section::trailers())),
        (SizeLf { size }, b'\n') => {
            let size = usize::try_from(size).map_err(|_| Reject::BodyTooLarge)?;
            if size > bytes_max {
                return Err(Reject::BodyTooLarge);
            }
            return Ok(ChunkPart::Data { left: size });
        }
        (SizeLf { .. }, _) => return Err(LINE_END),
        (DataCr, b'\r') => DataLf,
        (DataLf, b'\n') => NEXT_SIZE,
        (DataCr | DataLf, _) => return Err(DATA_END),
    }))
}
