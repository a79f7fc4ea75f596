//! Undoes the framing of a request's content: by length, or in chunks.
//!
//! Owns RFC 9112 §6 and §7.1. Must never know which fields announced the framing (`head` does)
//! or what the content is for. The invariant: the content never holds more than `body_bytes_max`
//! and never more than has arrived, whatever a length or a chunk size promises.
//!
//! Chunk lines are read here, not by `httparse::parse_chunk_size`: that one wants the whole line
//! in one buffer, takes an empty line for the last chunk, allows white space before the line's
//! end, and any byte in extensions of any length, even a bare LF.

use super::grammar::eq_ignore_case;
use super::head;
use super::limits::HttpLimits;
use super::reject::Reject;
use super::request::{Request, Version};
use super::section::{Section, append};

/// Bytes of chunk extensions in one body, white space and semicolons included.
///
/// With it all framing is bounded: n bytes of content have at most n chunks and a last one, each
/// with [`SIZE_DIGITS_MAX`] digits and two line ends, so at most 20 bytes of framing for a byte
/// of content, these extensions, and trailers within the limits of a head.
const EXTENSION_BYTES_MAX: usize = 4096;

/// Digits of one chunk size: as many as a 64-bit number has, leading zeros included.
const SIZE_DIGITS_MAX: u8 = 16;

const SIZE: Reject = Reject::BadRequest("A chunk size is not a hexadecimal number.");
const SIZE_EMPTY: Reject = Reject::BadRequest("A chunk size is missing.");
const SIZE_LONG: Reject = Reject::BadRequest("A chunk size has too many digits.");
const SIZE_SPACE: Reject = Reject::BadRequest("White space follows a chunk size.");
const EXTENSION: Reject = Reject::BadRequest("A chunk extension contains a control character.");
const EXTENSIONS: Reject = Reject::BadRequest("The chunk extensions are too long.");
const LINE_END: Reject = Reject::BadRequest("A chunk line does not end in CRLF.");
const DATA_END: Reject = Reject::BadRequest("A chunk's data is not followed by CRLF.");

/// Content on its way.
pub(super) enum BodyDecoder {
    /// So many bytes are still to come.
    Length { left: usize },
    Chunked {
        at: ChunkPart,
        /// ≤ [`EXTENSION_BYTES_MAX`].
        extension_bytes: usize,
    },
}

/// Where in a chunked body the next byte belongs.
pub(super) enum ChunkPart {
    Framing(ChunkLine),
    /// The data of a chunk, of which so much is still to come; never 0.
    Data {
        left: usize,
    },
    Trailers(Section),
}

/// Where in a chunk's framing the next byte belongs.
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
    /// The line feed of a chunk line.
    SizeLf {
        size: u64,
    },
    /// The line end after a chunk's data.
    DataCr,
    DataLf,
}

const NEXT_SIZE: ChunkLine = ChunkLine::Size { size: 0, digits: 0 };

impl BodyDecoder {
    /// Content of a known length, which the caller has held against `body_bytes_max`.
    pub(super) fn with_length(length: usize) -> BodyDecoder {
        BodyDecoder::Length { left: length }
    }

    /// Content that says itself where it ends.
    pub(super) fn chunked() -> BodyDecoder {
        BodyDecoder::Chunked { at: ChunkPart::Framing(NEXT_SIZE), extension_bytes: 0 }
    }

    /// Bytes of heap held, apart from the content.
    pub(super) fn bytes(&self) -> usize {
        match self {
            BodyDecoder::Chunked { at: ChunkPart::Trailers(section), .. } => section.bytes(),
            _ => 0,
        }
    }

    /// Moves content from the front of `input` to the end of `content`; whether that was all of it.
    pub(super) fn feed(
        &mut self,
        input: &mut &[u8],
        content: &mut Vec<u8>,
        limits: &HttpLimits,
    ) -> Result<bool, Reject> {
        let (at, extension_bytes) = match self {
            BodyDecoder::Length { left } => {
                take(input, left, content, limits);
                return Ok(*left == 0);
            }
            BodyDecoder::Chunked { at, extension_bytes } => (at, extension_bytes),
        };
        loop {
            match at {
                ChunkPart::Data { left } => {
                    take(input, left, content, limits);
                    if *left > 0 {
                        return Ok(false);
                    }
                    *at = ChunkPart::Framing(ChunkLine::DataCr);
                }
                ChunkPart::Framing(line) => {
                    let Some((&byte, rest)) = input.split_first() else { return Ok(false) };
                    *input = rest;
                    let room = limits.body_bytes_max.saturating_sub(content.len());
                    *at = after(*line, byte, room, extension_bytes)?;
                }
                ChunkPart::Trailers(section) => {
                    let Some(trailers) = section.feed(input, limits)? else { return Ok(false) };
                    // RFC 9110 §6.5.1: trailers may be thrown away, and merging them with the
                    // fields would let framing in by the back door. They must be well formed.
                    head::check_trailers(&trailers)?;
                    return Ok(true);
                }
            }
        }
    }
}

/// Moves up to `left` bytes.
fn take(input: &mut &[u8], left: &mut usize, content: &mut Vec<u8>, limits: &HttpLimits) {
    let (piece, rest) = input.split_at(input.len().min(*left));
    append(content, piece, limits.body_bytes_max);
    *left -= piece.len();
    *input = rest;
}

/// Where `byte` leads within a chunk's framing (RFC 9112 §7.1), with `room` for more content.
fn after(
    line: ChunkLine,
    byte: u8,
    room: usize,
    extension_bytes: &mut usize,
) -> Result<ChunkPart, Reject> {
    if matches!(
        (line, byte),
        (ChunkLine::Size { .. } | ChunkLine::Space { .. }, b' ' | b'\t' | b';')
    ) || matches!((line, byte), (ChunkLine::Extension { .. }, 0x20.. | b'\t'))
    {
        // RFC 9112 §7.1.1: extensions must be limited in their total length.
        if *extension_bytes >= EXTENSION_BYTES_MAX {
            return Err(EXTENSIONS);
        }
        *extension_bytes += 1;
    }
    Ok(ChunkPart::Framing(match (line, byte) {
        (ChunkLine::Size { digits: 0, .. }, b'\r' | b'\n' | b';' | b' ' | b'\t') => {
            return Err(SIZE_EMPTY);
        }
        (ChunkLine::Size { size, .. } | ChunkLine::Extension { size }, b'\r') => {
            ChunkLine::SizeLf { size }
        }
        (ChunkLine::Size { size, .. } | ChunkLine::Space { size }, b';') => {
            ChunkLine::Extension { size }
        }
        // RFC 9112 §7.1.1: white space belongs to an extension, so one must follow.
        (ChunkLine::Size { size, .. } | ChunkLine::Space { size }, b' ' | b'\t') => {
            ChunkLine::Space { size }
        }
        (ChunkLine::Size { .. } | ChunkLine::Extension { .. }, b'\n') => return Err(LINE_END),
        (ChunkLine::Size { size, digits }, _) => {
            let digit = char::from(byte).to_digit(16).ok_or(SIZE)?;
            if digits >= SIZE_DIGITS_MAX {
                return Err(SIZE_LONG);
            }
            ChunkLine::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
        }
        (ChunkLine::Space { .. }, _) => return Err(SIZE_SPACE),
        // Nobody reads extensions, so their inner grammar does not matter; what could make two
        // parsers disagree about the line's end, control characters, is refused.
        (ChunkLine::Extension { .. }, ..=0x08 | 0x0b..=0x1f | 0x7f) => return Err(EXTENSION),
        (ChunkLine::Extension { size }, _) => ChunkLine::Extension { size },
        (ChunkLine::SizeLf { size: 0 }, b'\n') => {
            return Ok(ChunkPart::Trailers(Section::trailers()));
        }
        (ChunkLine::SizeLf { size }, b'\n') => {
            let size = usize::try_from(size).map_err(|_| Reject::BodyTooLarge)?;
            if size > room {
                return Err(Reject::BodyTooLarge);
            }
            return Ok(ChunkPart::Data { left: size });
        }
        (ChunkLine::SizeLf { .. }, _) => return Err(LINE_END),
        (ChunkLine::DataCr, b'\r') => ChunkLine::DataLf,
        (ChunkLine::DataLf, b'\n') => NEXT_SIZE,
        (ChunkLine::DataCr | ChunkLine::DataLf, _) => return Err(DATA_END),
    }))
}

/// How the content is framed (RFC 9112 §6.3), if there is any.
///
/// §6.3 lets a server repair some of what is refused here (`Content-Length: 5, 5`, or a length
/// beside chunks). Each repair is a bet that everyone in front made the same one.
pub(super) fn framing(
    request: &Request,
    limits: &HttpLimits,
) -> Result<Option<BodyDecoder>, Reject> {
    let mut codings = request.fields("transfer-encoding");
    let mut lengths = request.fields("content-length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(None),
        // RFC 9112 §6.1: a 1.0 peer, or a proxy that forwards as one, knows no chunks.
        (Some(_), _) if request.version() == Version::Http10 => {
            Err(Reject::BadRequest("HTTP/1.0 has no Transfer-Encoding."))
        }
        (Some(_), Some(_)) => {
            Err(Reject::BadRequest("Content-Length stands beside Transfer-Encoding."))
        }
        // RFC 9112 §6.1 asks for 501 where a coding is merely unknown. But a coding that one
        // recipient knows and the next does not is the classic smuggler's tool: 400, and close.
        (Some(coding), None) => {
            if codings.next().is_some() {
                Err(Reject::BadRequest("There is more than one Transfer-Encoding field."))
            } else if eq_ignore_case(coding, b"chunked") {
                Ok(Some(BodyDecoder::chunked()))
            } else {
                Err(Reject::BadRequest("The transfer coding is not just chunked."))
            }
        }
        (None, Some(length)) => {
            if lengths.next().is_some() {
                return Err(Reject::BadRequest("There is more than one Content-Length field."));
            }
            let length = parse_length(length)?;
            let length = usize::try_from(length).map_err(|_| Reject::BodyTooLarge)?;
            if length > limits.body_bytes_max {
                return Err(Reject::BodyTooLarge);
            }
            Ok((length > 0).then(|| BodyDecoder::with_length(length)))
        }
    }
}

/// RFC 9110 §8.6: digits and nothing else. Rust's own parser would let a `+` pass.
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
            .ok_or(Reject::BadRequest("Content-Length is beyond all numbers."))
    })
}
