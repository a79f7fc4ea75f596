//! Parameters of the query.
//!
//! Owns the forms and ranges of parameters. Must not know what a route does with a parameter. The
//! invariant: a value that is out of range or of the wrong type gives 422 on REST, and is clamped
//! on the socket (contract §1.9). An `after` is never an error (contract §1.10).

use std::time::Duration;

use super::error::Error;
use crate::chat::{BanRequest, MessageId, Start};
use crate::http::{QueryValue, Request};

/// Maximum of `limit` and `history`, in messages (contract §2.10, §8.1).
const COUNT_MAX: usize = 1000;

/// Which messages a list has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Selection {
    /// `limit`: how many messages to return (contract §2.10).
    pub limit: usize,
    /// `after`: the message after which to continue. The inner option is `None` if the value is not
    /// a message's id.
    pub after: Option<Option<MessageId>>,
}

/// `limit` and `after`.
pub fn selection(request: &Request) -> Result<Selection, Error> {
    const DEFAULT: usize = 50;
    let [limit, after] = request.query_values(["limit", "after"]);
    let limit = match limit {
        None => DEFAULT,
        Some(value) => value
            .decode()
            .ok()
            .and_then(|text| count(&text))
            .filter(|limit| (1..=COUNT_MAX).contains(limit))
            .ok_or_else(|| Error::bad_query("The limit is not a whole number from 1 to 1000."))?,
    };
    Ok(Selection { limit, after: after.map(message) })
}

/// `detail`: whether a listing describes the rooms, or has only their ids (contract §9.2).
pub fn detail(request: &Request) -> Result<bool, Error> {
    match request.query_value("detail").ok().map(|value| value.as_deref().map(str::parse)) {
        Some(None) => Ok(false),
        Some(Some(Ok(detail))) => Ok(detail),
        Some(Some(Err(_))) | None => {
            Err(Error::bad_query("The value of detail is neither true nor false."))
        }
    }
}

/// Longest ban.
const BAN_SECONDS_MAX: u64 = 30 * 24 * 3600;

/// `ban`: for how many seconds, and `address`: whether the address too (contract §13.21, §13.22).
pub fn ban(request: &Request) -> Result<Option<BanRequest>, Error> {
    let [ban, address] = request.query_values(["ban", "address"]);
    let address = match address {
        None => None,
        Some(value) => {
            let flag = value.decode().ok().and_then(|text| text.parse().ok());
            Some(flag.ok_or_else(|| {
                Error::bad_query("The value of address is neither true nor false.")
            })?)
        }
    };
    let Some(ban) = ban else {
        return match address {
            None => Ok(None),
            Some(_) => Err(Error::bad_query("An address is banned only together with a person.")),
        };
    };
    let seconds = ban.decode().ok().and_then(|text| count(&text)).map(|seconds| seconds as u64);
    let seconds = seconds.filter(|seconds| (1..=BAN_SECONDS_MAX).contains(seconds));
    let seconds = seconds.ok_or_else(|| {
        Error::bad_query("The ban is not a whole number of seconds from 1 to 2592000.")
    })?;
    let address = address.unwrap_or_default();
    Ok(Some(BanRequest { duration: Duration::from_secs(seconds), address }))
}

/// What the query of a request to enter a room says.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// `session_id`: the credential that counts if there is no other.
    pub session_id: Option<QueryValue<'a>>,
    /// `after`, else `history`, else `welcome`: how a socket begins (contract §8.5, §8.16).
    pub start: Start,
}

/// `session_id`, `after`, `history` and `welcome`.
pub fn entry(request: &Request) -> Entry<'_> {
    let [session_id, after, history, welcome] =
        request.query_values(["session_id", "after", "history", "welcome"]);
    let is_welcome = || welcome.is_some_and(|value| value.decode().is_ok_and(|it| it == "true"));
    let start = match (after, history) {
        (Some(after), _) => Start::After(message(after)),
        (None, Some(history)) => Start::Last(history.decode().map_or(0, |text| clamped(&text))),
        (None, None) if is_welcome() => Start::Welcome,
        (None, None) => Start::Live,
    };
    Entry { session_id, start }
}

/// The id of a message; `None` if the value is none.
fn message(value: QueryValue<'_>) -> Option<MessageId> {
    value.decode().ok().and_then(|id| MessageId::parse(&id))
}

/// The count clamped to the range of `history`. Anything but a number is 0, so that the socket
/// still gets the history frame that it requested.
fn clamped(text: &str) -> usize {
    count(text).unwrap_or(0).min(COUNT_MAX)
}

/// Parses decimal digits; `usize::MAX` if the number is larger. `str::parse` alone accepts a sign.
fn count(text: &str) -> Option<usize> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(usize::MAX))
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
