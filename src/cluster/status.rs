//! The word that the reply of a function begins with.
//!
//! Owns the list of these words. Must not know which function gives which, or what follows. The
//! invariant: every word in `functions.lua` is here, and any other is [`Status::Fault`], which nobody
//! takes for success.

use super::resp::Reply;

/// What has become of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Status {
    Ok,
    /// The person is in the room, or may be without more ado.
    In,
    /// The node's lease goes on.
    Kept,
    /// The store does not know the node.
    New,
    /// What was asked for is as it was.
    Same,
    /// There is a message with this nonce.
    Dup,
    /// The id is taken.
    Exists,
    /// The lock that the password is to be compared with.
    Lock,
    /// The lock is another one now.
    Again,
    /// The name's holder is being asked whether it is still there.
    Probe,
    NoSession,
    NoRoom,
    NoMember,
    /// The person is not in the room any more, and its connections are being closed.
    Gone,
    Banned,
    Locked,
    /// The session is over a limit.
    Over,
    Taken,
    Rate,
    /// The store has as many sessions or rooms as it may.
    Full,
    /// The address has as many sessions or rooms as it may.
    Share,
    NotOwner,
    NoUser,
    NoMessage,
    NotAuthor,
    /// The store lacks what the node has.
    Behind,
    /// The store does not keep any more what the node lacks.
    Gap,
    /// None of these: a fault of the store, or of ours.
    Fault,
}

impl Status {
    /// The status of a function's reply.
    pub fn of(reply: &Reply) -> Status {
        match reply.bytes(0) {
            b"OK" => Status::Ok,
            b"IN" => Status::In,
            b"KEPT" => Status::Kept,
            b"NEW" => Status::New,
            b"SAME" => Status::Same,
            b"DUP" => Status::Dup,
            b"EXISTS" => Status::Exists,
            b"LOCK" => Status::Lock,
            b"AGAIN" => Status::Again,
            b"PROBE" => Status::Probe,
            b"NOSESSION" => Status::NoSession,
            b"NOROOM" => Status::NoRoom,
            b"NOMEMBER" => Status::NoMember,
            b"GONE" => Status::Gone,
            b"BANNED" => Status::Banned,
            b"LOCKED" => Status::Locked,
            b"OVER" => Status::Over,
            b"TAKEN" => Status::Taken,
            b"RATE" => Status::Rate,
            b"FULL" => Status::Full,
            b"SHARE" => Status::Share,
            b"NOTOWNER" => Status::NotOwner,
            b"NOUSER" => Status::NoUser,
            b"NOMESSAGE" => Status::NoMessage,
            b"NOTAUTHOR" => Status::NotAuthor,
            b"BEHIND" => Status::Behind,
            b"GAP" => Status::Gap,
            _ => Status::Fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cluster::library::source;

    /// Words in quotes in the source that are arguments of the store's commands.
    const ARGUMENTS: [&str; 9] =
        ["WITHSCORES", "LIMIT", "COUNT", "NX", "PX", "MAXLEN", "STREAM", "USAGE", "XX"];

    #[test]
    fn every_status_in_the_source_is_known_and_no_other() {
        let mut words = BTreeSet::new();
        let source = source();
        for (at, _) in source.match_indices('\'') {
            let (before, rest) = source.split_at(at);
            let word = rest[1..].split('\'').next().unwrap_or_default();
            let is_word = word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase());
            if is_word && !before.ends_with("call(") && !ARGUMENTS.contains(&word) {
                words.insert(word);
            }
        }
        let unknown = |word: &&&str| {
            let reply = Reply::List(vec![Reply::Text(word.as_bytes().to_vec())]);
            Status::of(&reply) == Status::Fault
        };
        let unknown: Vec<_> = words.iter().filter(unknown).collect();
        assert_eq!(unknown, [&"FENCED"], "an error, which is no status");
        assert_eq!(words.len(), 28, "{words:?}");
        for reply in [Reply::Null, Reply::Number(1), Reply::List(Vec::new())] {
            assert_eq!(Status::of(&reply), Status::Fault);
        }
        let odd = Reply::List(vec![Reply::Text(b"OKAY".to_vec())]);
        assert_eq!(Status::of(&odd), Status::Fault);
    }
}
