//! The limits on one request.
//!
//! Owns the limits and the ceilings above them. Must not know how limits are configured. The
//! invariant: a [`Codec`](super::Codec) works with [`HttpLimits::capped`] limits, because the index
//! of a head has 16-bit offsets and `httparse` is given a fixed number of slots.

/// The limits on one request. A request over a limit gets the named variant of
/// [`Reject`](super::Reject).
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Bytes of the request line and the fields together, line ends included; at most 65535.
    /// Over it: `HeadersTooLarge`. The trailers of a chunked body are limited to the same number,
    /// counted separately.
    pub head_bytes_max: usize,
    /// Field lines; at most 128. Over it: `HeadersTooLarge`.
    pub fields_max: usize,
    /// Bytes of the request target. Over it: `TargetTooLong`. When a request exceeds this limit and
    /// `head_bytes_max`, the limit that its bytes reach first decides.
    pub target_bytes_max: usize,
    /// Bytes of decoded content, without chunk framing. Over it: `BodyTooLarge`.
    pub body_bytes_max: usize,
}

/// Ceiling on [`HttpLimits::fields_max`]: the number of slots that `httparse` is given.
pub(super) const FIELDS_CEILING: usize = 128;

/// Ceiling on [`HttpLimits::head_bytes_max`]: a request's index has 16-bit offsets.
pub(super) const HEAD_BYTES_CEILING: usize = u16::MAX as usize;

impl HttpLimits {
    /// These limits, each lowered to its ceiling.
    pub(super) fn capped(self) -> HttpLimits {
        HttpLimits {
            head_bytes_max: self.head_bytes_max.min(HEAD_BYTES_CEILING),
            fields_max: self.fields_max.min(FIELDS_CEILING),
            ..self
        }
    }
}
