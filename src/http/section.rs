//! The end of a head or of a trailer section, found byte by byte.
//!
//! Owns lines, the spaces in a request line, control characters and the limits on size. It makes
//! the checks that do not need the complete section, and the checks that `httparse` lacks. Must not
//! know what a field means. The invariant: each byte is checked once, when it arrives, and the
//! result depends only on it and the bytes before it. So neither the result nor the work depends on
//! how the network split the bytes.
//!
//! `httparse` accepts three things that this file refuses: lines that end in a bare LF, any number
//! of empty lines before a request, and targets that are not ASCII. RFC 9112 §2.2 permits a bare LF,
//! but two recipients that treat it differently see different requests.

use std::borrow::Cow;

use super::grammar::graphic_run;
use super::limits::HttpLimits;
use super::reject::Reject;

/// Empty lines accepted before a request line.
///
/// RFC 9112 §2.2: at least one should be ignored, because some old clients send a line end after a
/// body that `Content-Length` does not include.
const EMPTY_LINES_MAX: u8 = 4;

/// Initial capacity of a buffer for an incomplete section or content.
const PARTIAL_BYTES_MIN: usize = 64;

const BARE_CR: Reject = Reject::BadRequest("A carriage return is not followed by a line feed.");
const BARE_LF: Reject = Reject::BadRequest("A line feed does not follow a carriage return.");
const CONTROL: Reject = Reject::BadRequest("A line contains a control character.");
const EMPTY_LINES: Reject = Reject::BadRequest("Too many empty lines before the request.");
const NO_TARGET: Reject = Reject::BadRequest("The request line has no target.");
const NO_VERSION: Reject = Reject::BadRequest("The request line has no HTTP version.");
const SPACES: Reject = Reject::BadRequest("The request line is not separated by single spaces.");
const FRAGMENT: Reject = Reject::BadRequest("The request target has a fragment.");
const NOT_ASCII: Reject = Reject::BadRequest("The request target is not ASCII.");
const SPACE_FIRST: Reject = Reject::BadRequest("The first field line begins with white space.");
const FOLDED: Reject = Reject::BadRequest("A field is folded over several lines.");

/// A section that has not arrived completely.
pub(super) struct Section {
    state: SectionState,
    /// Bytes checked, without empty lines before the request; ≤ `head_bytes_max`.
    bytes: usize,
    /// Field lines of which at least one byte has arrived; ≤ `fields_max`.
    fields: usize,
    /// The bytes of earlier calls. Its capacity grows only when bytes arrive.
    partial: Vec<u8>,
}

/// The position of the next byte within a section.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SectionState {
    /// The first byte of a request, or an empty line before it.
    Start {
        empty_lines: u8,
    },
    /// The line feed of an empty line before the request.
    StartLf {
        empty_lines: u8,
    },
    Method,
    Target {
        bytes: usize,
    },
    Version,
    /// A field line, or the empty line that ends the section.
    LineStart,
    Field,
    /// The line feed of the request line or of a field line.
    LineLf,
    /// The line feed of the section's last line.
    LastLf,
}

impl Section {
    /// A section that begins with a request line.
    pub(super) fn head() -> Section {
        Section {
            state: SectionState::Start { empty_lines: 0 },
            bytes: 0,
            fields: 0,
            partial: Vec::new(),
        }
    }

    /// A section of fields alone, as after a chunked body.
    pub(super) fn trailers() -> Section {
        Section { state: SectionState::LineStart, ..Section::head() }
    }

    /// Whether no byte has arrived, not even of an empty line.
    pub(super) fn is_idle(&self) -> bool {
        self.state == SectionState::Start { empty_lines: 0 }
    }

    /// Bytes of heap in use.
    pub(super) fn bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// Takes bytes from the front of `input` up to the section's end. Returns the section when it
    /// is complete, borrowed if all of it is in `input`.
    pub(super) fn feed<'a>(
        &mut self,
        input: &mut &'a [u8],
        limits: &HttpLimits,
    ) -> Result<Option<Cow<'a, [u8]>>, Reject> {
        self.skip_empty_lines(input)?;
        let arrived = *input;
        let end = self.find_end(arrived, limits)?;
        let (piece, rest) = arrived.split_at(end.unwrap_or(arrived.len()));
        *input = rest;
        if end.is_some() && self.partial.is_empty() {
            return Ok(Some(Cow::Borrowed(piece)));
        }
        append(&mut self.partial, piece, limits.head_bytes_max);
        Ok(end.map(|_| Cow::Owned(std::mem::take(&mut self.partial))))
    }

    fn skip_empty_lines(&mut self, input: &mut &[u8]) -> Result<(), Reject> {
        while let Some((&byte, rest)) = input.split_first() {
            self.state = match (self.state, byte) {
                (SectionState::Start { empty_lines: EMPTY_LINES_MAX.. }, b'\r') => {
                    return Err(EMPTY_LINES);
                }
                (SectionState::Start { empty_lines }, b'\r') => {
                    SectionState::StartLf { empty_lines }
                }
                (SectionState::StartLf { empty_lines }, b'\n') => {
                    SectionState::Start { empty_lines: empty_lines + 1 }
                }
                (SectionState::StartLf { .. }, _) => return Err(BARE_CR),
                (SectionState::Start { .. }, _) => {
                    self.state = SectionState::Method;
                    return Ok(());
                }
                _ => return Ok(()),
            };
            *input = rest;
        }
        Ok(())
    }

    /// Checks the bytes that arrived. Returns the index after the section's last byte, if that byte
    /// has arrived.
    fn find_end(&mut self, arrived: &[u8], limits: &HttpLimits) -> Result<Option<usize>, Reject> {
        let mut index = 0;
        while let Some(&byte) = arrived.get(index) {
            if self.bytes == limits.head_bytes_max {
                return Err(Reject::HeadersTooLarge);
            }
            self.bytes += 1;
            index += 1;
            let Some(next) = self.after(byte, limits)? else {
                return Ok(Some(index));
            };
            self.state = next;
            index += self.skip_run(&arrived[index..], limits);
        }
        Ok(None)
    }

    /// Skips a run of bytes that leave the state as it is. Only a shortcut: the state machine comes
    /// to the same result, as it does for input that comes byte by byte. Returns the number of
    /// bytes skipped.
    fn skip_run(&mut self, rest: &[u8], limits: &HttpLimits) -> usize {
        let (first, max) = match &self.state {
            SectionState::Field => (b' ', usize::MAX),
            SectionState::Method | SectionState::Version => (b'!', usize::MAX),
            SectionState::Target { bytes } => {
                (b'!', limits.target_bytes_max.saturating_sub(*bytes))
            }
            _ => return 0,
        };
        let max = max.min(limits.head_bytes_max - self.bytes).min(rest.len());
        let run = graphic_run(&rest[..max], first);
        self.bytes += run;
        if let SectionState::Target { bytes } = &mut self.state {
            *bytes += run;
        }
        run
    }

    /// The state after `byte`; `None` if it ends the section.
    fn after(&mut self, byte: u8, limits: &HttpLimits) -> Result<Option<SectionState>, Reject> {
        let next = match (self.state, byte) {
            // The most frequent case comes first. `httparse` checks which bytes a name may have.
            (SectionState::Field, b'\t' | b' '..=b'~' | 0x80..) => SectionState::Field,

            // RFC 9112 §2.2: a bare CR must be refused or replaced. A bare LF may be accepted as a
            // line end, but then a proxy that does not accept it sees other lines.
            (SectionState::LineLf, b'\n') => SectionState::LineStart,
            (SectionState::LastLf, b'\n') => return Ok(None),
            (SectionState::LineLf | SectionState::LastLf, _) => return Err(BARE_CR),
            (_, b'\n') => return Err(BARE_LF),
            // RFC 9110 §5.5: control characters are dangerous in values, and not allowed elsewhere.
            (_, ..=0x08 | 0x0b | 0x0c | 0x0e..=0x1f | 0x7f) => return Err(CONTROL),

            // RFC 9112 §3: single spaces. The other separators that §3 lets a lenient server accept
            // are refused.
            (SectionState::Method, b' ') => SectionState::Target { bytes: 0 },
            (SectionState::Method, b'\t') => return Err(SPACES),
            (SectionState::Method, b'\r') => return Err(NO_TARGET),
            (SectionState::Method, _) => SectionState::Method,
            (SectionState::Target { bytes: 0 }, b' ') | (SectionState::Target { .. }, b'\t') => {
                return Err(SPACES);
            }
            (SectionState::Target { .. }, b' ') => SectionState::Version,
            (SectionState::Target { .. }, b'\r') => return Err(NO_VERSION),
            // This arm precedes the checks of the character, so that any byte over the limit gives
            // 414.
            (SectionState::Target { bytes }, _) if bytes >= limits.target_bytes_max => {
                return Err(Reject::TargetTooLong);
            }
            // RFC 9112 §3.2: no form of a target has a fragment. RFC 3986 §2: a URI is ASCII.
            (SectionState::Target { .. }, b'#') => return Err(FRAGMENT),
            (SectionState::Target { .. }, 0x80..) => return Err(NOT_ASCII),
            (SectionState::Target { bytes }, _) => SectionState::Target { bytes: bytes + 1 },
            (SectionState::Version, b' ' | b'\t') => return Err(SPACES),
            (SectionState::Version | SectionState::Field, b'\r') => SectionState::LineLf,
            (SectionState::Version, _) => SectionState::Version,

            (SectionState::LineStart, b'\r') => SectionState::LastLf,
            // RFC 9112 §2.2: some recipients skip such a line, others refuse the request.
            (SectionState::LineStart, b' ' | b'\t') if self.fields == 0 => return Err(SPACE_FIRST),
            // RFC 9112 §5.2: obsolete line folding may be answered with 400.
            (SectionState::LineStart, b' ' | b'\t') => return Err(FOLDED),
            (SectionState::LineStart, _) if self.fields >= limits.fields_max => {
                return Err(Reject::HeadersTooLarge);
            }
            (SectionState::LineStart, _) => {
                self.fields += 1;
                SectionState::Field
            }
            // Not reached: `skip_empty_lines` has left these states.
            (SectionState::Start { .. } | SectionState::StartLf { .. }, _) => SectionState::Method,
        };
        Ok(Some(next))
    }
}

/// Appends `bytes`. A buffer that has to grow doubles its capacity, but not beyond `max`, so that
/// the memory that a peer can claim is bounded by the limit and not by twice the limit.
pub(super) fn append(buffer: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let needed = buffer.len().saturating_add(bytes.len());
    let capacity = buffer.capacity();
    if needed > capacity {
        let doubled = capacity.saturating_mul(2).max(PARTIAL_BYTES_MIN).min(max);
        buffer.reserve_exact(needed.max(doubled) - buffer.len());
    }
    buffer.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_doubles_up_to_its_limit() {
        let mut buffer = Vec::new();
        let mut growths = 0;
        for _ in 0..1000 {
            let before = buffer.capacity();
            append(&mut buffer, b"x", 1000);
            growths += usize::from(buffer.capacity() != before);
            assert!(buffer.capacity() <= 1000);
        }
        assert_eq!(growths, 5, "64, 128, 256, 512, 1000");
    }

    #[test]
    fn a_section_in_one_piece_is_not_copied() {
        let limits = HttpLimits {
            head_bytes_max: 99,
            fields_max: 9,
            target_bytes_max: 9,
            body_bytes_max: 9,
        };
        let mut section = Section::head();
        let mut input: &[u8] = b"GET / HTTP/1.1\r\n\r\nmore";
        let found = section.feed(&mut input, &limits);
        assert!(matches!(found, Ok(Some(Cow::Borrowed(b"GET / HTTP/1.1\r\n\r\n")))));
        assert_eq!(input, b"more");
        assert_eq!(section.bytes(), 0);
    }
}
