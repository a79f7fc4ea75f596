//! Parameters of the query.
//!
//! Owns their forms and ranges. Must never know what they are good for. The invariant: what is
//! out of range or of the wrong type is 422 on REST and clamped on the socket, and an `after`
//! that makes no sense is no mistake on either.

use super::error::Error;
use crate::chat::{MessageId, Start};
use crate::http::Request;

/// Most messages that may be asked for at once, other than by `after` (contract §2.10, §8.1).
const COUNT_MAX: usize = 1000;

/// `limit`: how many messages are asked for.
pub fn limit(request: &Request) -> Result<usize, Error> {
    const DEFAULT: usize = 50;
    let bad = || Error::bad_query("The limit is not a whole number from 1 to 1000.");
    let Some(text) = request.query_value("limit").map_err(|_| bad())? else { return Ok(DEFAULT) };
    if !is_digits(&text) {
        return Err(bad()); // `parse` would take a sign.
    }
    text.parse().ok().filter(|limit| (1..=COUNT_MAX).contains(limit)).ok_or_else(bad)
}

/// `detail`: whether more than ids is asked for.
pub fn detail(request: &Request) -> Result<bool, Error> {
    match request.query_value("detail").ok().map(|value| value.as_deref().map(str::parse)) {
        Some(None) => Ok(false),
        Some(Some(Ok(detail))) => Ok(detail),
        Some(Some(Err(_))) | None => Err(Error::bad_query("The detail is neither true nor false.")),
    }
}

/// `after`: the message to go on from, if one is named; it may make no sense.
pub fn after(request: &Request) -> Option<Option<MessageId>> {
    let value = request.query_value("after").transpose()?;
    Some(value.ok().and_then(|id| MessageId::parse(&id)))
}

/// `after` or else `history`: where a socket begins to listen.
pub fn start(request: &Request) -> Start {
    if let Some(id) = after(request) {
        return Start::After(id);
    }
    match request.query_value("history") {
        Ok(None) => Start::Live,
        Ok(Some(count)) => Start::Last(clamped(&count)),
        Err(_) => Start::Last(0),
    }
}

/// What is no number, or below zero, is zero: so whoever asks for a history gets one.
fn clamped(text: &str) -> usize {
    if !is_digits(text) {
        return 0;
    }
    text.parse().map_or(COUNT_MAX, |count: usize| count.min(COUNT_MAX)) // Too many digits.
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_clamped() {
        let cases = [("0", 0), ("7", 7), ("0012", 12), ("1000", 1000), ("1001", 1000)];
        let odd = [("", 0), ("-5", 0), ("5.5", 0), ("x", 0), ("99999999999999999999", 1000)];
        for (text, count) in cases.into_iter().chain(odd) {
            assert_eq!(clamped(text), count, "{text}");
        }
    }
}
