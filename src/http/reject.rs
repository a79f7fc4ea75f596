//! The reasons to refuse a request that violates HTTP or a limit.
//!
//! Owns the refusals and their English sentences. Must not know how a refusal is answered: `api`
//! gives each its status and code. The invariant: the input that follows a refused request cannot
//! be interpreted, so the refusal is the connection's last response.

use std::fmt;

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reject {
    /// 400: malformed or ambiguous, as the sentence explains.
    BadRequest(&'static str),
    /// 431.
    HeadersTooLarge,
    /// 414.
    TargetTooLong,
    /// 413.
    BodyTooLarge,
    /// 501: a transfer coding other than chunked.
    UnknownCoding,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reject::BadRequest(sentence) => sentence,
            Reject::HeadersTooLarge => "The request's header fields are too large or too many.",
            Reject::TargetTooLong => "The request target is too long.",
            Reject::BodyTooLarge => "The request's body is too large.",
            Reject::UnknownCoding => "The only transfer coding supported is \"chunked\".",
        })
    }
}

impl std::error::Error for Reject {}
