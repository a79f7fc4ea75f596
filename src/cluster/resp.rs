//! RESP3, the protocol of Valkey and Redis, as far as the server speaks it.
//!
//! Owns packing commands, and turning what the store sends into [`Reply`] values. Must not know which
//! command a reply answers. The invariant: a value is made of a whole frame only, and owns its bytes,
//! because a name of ten bytes must not keep the read buffer; and nothing that the store sends causes a
//! panic, or memory beyond a fixed multiple of [`REPLY_BYTES_MAX`].
//!
//! A frame is read twice: when its bytes come, part by part, until it is whole, and then into a value.
//! So each byte is looked at twice, and no value is ever incomplete. The crate `resp-rs` read a frame
//! from its beginning whenever more of it came, and with the fractions that it also reads, which no
//! command of ours is answered by, the program was 30 KB larger.

use std::io::Write as _;

/// The longest reply or push, in bytes. The longest reply that a function gives is a page of a
/// history (256 messages of 16 KiB at most).
pub const REPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The deepest nesting of lists. An entry within a list of entries within a reply is at depth 3.
pub const REPLY_DEPTH_MAX: usize = 8;

/// The longest line: a text without a length, an error, or the length of something.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// An empty buffer larger than this is freed.
const BUFFER_KEPT_MAX: usize = 256 * 1024;

/// What precedes a command's arguments in an error.
const ARGS_FOLLOW: &[u8] = b", with args";

/// The longest text of an error that is kept for the log.
const ERROR_TEXT_CHARS_MAX: usize = 200;

/// What the store answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// A string, whichever kind of string the protocol has.
    Text(Vec<u8>),
    /// A number; a boolean is 0 or 1.
    Number(i64),
    /// A list or a set. A map is the list of its keys and values, alternating.
    List(Vec<Reply>),
    /// Nothing: `nil` or `false` of a function.
    Null,
    /// The command was refused.
    Error(StoreError),
}

impl Reply {
    /// The bytes of a text; none of anything else.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Reply::Text(text) => text,
            _ => &[],
        }
    }

    /// Bytes of heap held.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Reply::Text(text) => text.capacity(),
            Reply::List(items) => {
                let own = items.capacity() * size_of::<Reply>();
                own + items.iter().map(Reply::heap_bytes).sum::<usize>()
            }
            _ => 0,
        }
    }

    /// A text in UTF-8; empty for anything else.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The elements of a list; none of anything else.
    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::List(items) => items,
            _ => &[],
        }
    }

    /// The number, which may be written as a text of digits.
    pub fn as_number(&self) -> Option<u64> {
        match self {
            Reply::Number(number) => u64::try_from(*number).ok(),
            Reply::Text(text) => digits(text),
            _ => None,
        }
    }

    /// The word that a function's reply begins with; empty if it has none.
    pub fn status(&self) -> &str {
        self.text(0)
    }

    /// The bytes of the text at this place of a list; empty if there is none.
    pub fn bytes(&self, place: usize) -> &[u8] {
        self.items().get(place).map(Reply::as_bytes).unwrap_or_default()
    }

    /// The text at this place of a list; empty if there is none, or if it is not UTF-8.
    pub fn text(&self, place: usize) -> &str {
        std::str::from_utf8(self.bytes(place)).unwrap_or_default()
    }

    /// The number at this place of a list, which may be written as a text; 0 if there is none.
    pub fn number(&self, place: usize) -> u64 {
        self.items().get(place).and_then(Reply::as_number).unwrap_or_default()
    }

    /// The list at this place of a list; empty if there is none.
    pub fn list(&self, place: usize) -> &[Reply] {
        self.items().get(place).map(Reply::items).unwrap_or_default()
    }
}

/// The number of something, at this place of a reply; 0 if there is none.
pub(super) fn count(reply: &Reply, place: usize) -> usize {
    usize::try_from(reply.number(place)).unwrap_or_default()
}

/// The number that consists of these decimal digits; `None` for anything else.
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    // `str::parse` would also take a plus sign.
    let is_number = text.first().is_some_and(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

/// Why the store refused a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreError {
    /// What it means for the connection and the command.
    pub kind: StoreErrorKind,
    /// Its text, for the log: without the command's arguments, and in one line.
    pub text: String,
}

/// The errors that the server tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreErrorKind {
    /// The node or its incarnation is not the one that the store knows. Nothing was done.
    Fenced,
    /// The store's servers have other terms ([`UplinkConfig::terms`](super::UplinkConfig::terms)).
    Terms,
    /// The function is not loaded. Nothing was done.
    NoFunction,
    /// The library to load is there already.
    LibraryExists,
    /// The store's memory is full. Nothing was done.
    OutOfMemory,
    /// The store takes no writes now, or no commands: it is loading, a replica, without enough
    /// replicas, or busy with a script. Nothing was done.
    NotNow,
    /// The login was refused, or does not allow the command.
    NoRights,
    /// The store does not know the command or the protocol.
    Unknown,
    /// Anything else: a bug of ours.
    Other,
}

impl StoreError {
    /// Whether the call was not executed, for a reason that another connection may not have.
    pub(super) fn means_nothing_was_done(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Fenced | StoreErrorKind::NoFunction | StoreErrorKind::NotNow
        )
    }

    fn parse(text: &[u8]) -> StoreError {
        let word = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        let kind = match word {
            b"FENCED" => StoreErrorKind::Fenced,
            b"TERMS" => StoreErrorKind::Terms,
            b"OOM" => StoreErrorKind::OutOfMemory,
            b"READONLY" | b"NOREPLICAS" | b"LOADING" | b"MASTERDOWN" | b"BUSY" | b"TRYAGAIN"
            | b"CLUSTERDOWN" | b"MISCONF" => StoreErrorKind::NotNow,
            b"WRONGPASS" | b"NOAUTH" | b"NOPERM" => StoreErrorKind::NoRights,
            b"NOPROTO" => StoreErrorKind::Unknown,
            b"ERR" if text.starts_with(b"ERR Function not found") => StoreErrorKind::NoFunction,
            b"ERR" if text.ends_with(b"already exists") => StoreErrorKind::LibraryExists,
            b"ERR" if text.starts_with(b"ERR unknown command") => StoreErrorKind::Unknown,
            b"ERR" if text.starts_with(b"ERR max number of clients") => StoreErrorKind::NotNow,
            _ => StoreErrorKind::Other,
        };
        // `unknown command 'X', with args beginning with: …` would put texts of clients into the log.
        let end = text.windows(ARGS_FOLLOW.len()).position(|part| part == ARGS_FOLLOW);
        let shown = String::from_utf8_lossy(&text[..end.unwrap_or(text.len())]);
        let in_one_line = shown.chars().map(|c| if c.is_control() { ' ' } else { c });
        StoreError { kind, text: in_one_line.take(ERROR_TEXT_CHARS_MAX).collect() }
    }
}

/// One thing that the store has sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreEvent {
    /// The reply to the oldest command without one.
    Reply(Reply),
    /// A message on a channel.
    Message {
        /// The channel's name.
        channel: Vec<u8>,
        /// The text.
        text: Vec<u8>,
    },
    /// The connection is subscribed to a channel, which answers the command.
    Subscribed,
    /// Any other push; it answers nothing.
    OtherPush,
}

/// The store has sent something that is not RESP3, or exceeds a limit. The connection is unusable,
/// because where the next reply begins is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadReply;

/// Splits the store's bytes into replies and pushes.
#[derive(Default)]
pub struct ReplyReader {
    /// Bytes that do not make a whole frame yet, between two calls of [`ReplyReader::drain`].
    buffer: Vec<u8>,
    /// How far the first frame in `buffer` has been seen, so that each byte is looked at once, however
    /// many pieces a large reply comes in.
    seen: Seen,
}

/// A part of a frame: whole parts from its beginning.
struct Seen {
    bytes: usize,
    /// Parts that follow before the frame is whole.
    parts_left: usize,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { bytes: 0, parts_left: 1 }
    }
}

impl ReplyReader {
    /// Appends bytes that the store has sent.
    pub fn feed(&mut self, input: &[u8]) {
        self.buffer.extend_from_slice(input);
    }

    /// Bytes that no reply has been made of yet.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Forgets everything: another connection begins.
    pub fn clear(&mut self) {
        *self = ReplyReader::default();
    }

    /// Passes on all whole replies and pushes. After an error the reader must be cleared.
    pub fn drain(&mut self, mut take: impl FnMut(StoreEvent)) -> Result<(), BadReply> {
        let mut taken = 0;
        while let Some(mut frame) = self.next_frame(taken)? {
            taken += frame.len();
            if let Some(event) = event(&mut frame)? {
                take(event);
            }
        }
        self.buffer.drain(..taken);
        if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_KEPT_MAX {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// The frame that begins at this place of the buffer; `None`: it is not whole yet.
    fn next_frame(&mut self, start: usize) -> Result<Option<&[u8]>, BadReply> {
        let rest = &self.buffer[start..];
        let mut unseen = &rest[self.seen.bytes..];
        while self.seen.parts_left > 0 {
            let Some(part) = next_part(&mut unseen)? else {
                return if rest.len() <= REPLY_BYTES_MAX { Ok(None) } else { Err(BadReply) };
            };
            let items = if let Part::Items(_, items) = part { items } else { 0 };
            self.seen.parts_left += items;
            self.seen.parts_left -= 1;
            self.seen.bytes = rest.len() - unseen.len();
        }
        let frame_bytes = std::mem::take(&mut self.seen).bytes;
        if frame_bytes > REPLY_BYTES_MAX {
            return Err(BadReply);
        }
        Ok(Some(&rest[..frame_bytes]))
    }
}

/// The smallest unit of the protocol, with the sign that it begins with.
enum Part<'a> {
    /// A line, or a text whose length precedes it.
    Text(u8, &'a [u8]),
    /// So many parts follow that belong to it.
    Items(u8, usize),
    Null,
}

/// Takes a part off the front of `input`; `None`: it is not whole yet.
fn next_part<'a>(input: &mut &'a [u8]) -> Result<Option<Part<'a>>, BadReply> {
    let Some((&sign, behind)) = input.split_first() else { return Ok(None) };
    if !b"+-:(,#_$=!*~%|>".contains(&sign) {
        return Err(BadReply);
    }
    let searched = &behind[..behind.len().min(LINE_BYTES_MAX + 2)];
    let Some(end) = searched.windows(2).position(|two| two == b"\r\n") else {
        return if searched.len() < LINE_BYTES_MAX + 2 { Ok(None) } else { Err(BadReply) };
    };
    let (line, behind) = (&behind[..end], &behind[end + 2..]);
    let length = || {
        let length = digits(line).and_then(|length| usize::try_from(length).ok());
        length.filter(|length| *length <= REPLY_BYTES_MAX).ok_or(BadReply)
    };
    let part = match sign {
        b'_' => Part::Null,
        b'$' | b'*' if line == b"-1" => Part::Null,
        b'$' | b'=' | b'!' => {
            let length = length()?;
            let Some((text, end)) = behind.get(..length + 2).map(|text| text.split_at(length))
            else {
                return Ok(None);
            };
            if end != b"\r\n" {
                return Err(BadReply);
            }
            *input = &behind[length + 2..];
            return Ok(Some(Part::Text(sign, text)));
        }
        b'*' | b'~' | b'>' => Part::Items(sign, length()?),
        b'%' | b'|' => Part::Items(sign, 2 * length()?),
        _ => Part::Text(sign, line),
    };
    *input = behind;
    Ok(Some(part))
}

/// What a whole frame is; `None` for metadata (attributes), of which no reply needs any.
fn event(frame: &mut &[u8]) -> Result<Option<StoreEvent>, BadReply> {
    match frame.first() {
        Some(b'|') => Ok(None),
        Some(b'>') => push(frame).map(Some),
        _ => reply(frame, REPLY_DEPTH_MAX).map(|reply| Some(StoreEvent::Reply(reply))),
    }
}

fn push(frame: &mut &[u8]) -> Result<StoreEvent, BadReply> {
    let Some(Part::Items(_, count)) = next_part(frame)? else { return Err(BadReply) };
    let mut items = items(frame, count, REPLY_DEPTH_MAX)?.into_iter();
    let mut text = || match items.next() {
        Some(Reply::Text(text)) => Ok(text),
        _ => Err(BadReply),
    };
    match text()?.as_slice() {
        b"smessage" => Ok(StoreEvent::Message { channel: text()?, text: text()? }),
        b"ssubscribe" => Ok(StoreEvent::Subscribed),
        _ => Ok(StoreEvent::OtherPush),
    }
}

/// Takes so many values off the front of a whole frame.
fn items(frame: &mut &[u8], count: usize, depth: usize) -> Result<Vec<Reply>, BadReply> {
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(reply(frame, depth)?);
    }
    Ok(items)
}

/// Takes a value off the front of a whole frame. `depth`: how many lists may be nested in it.
fn reply(frame: &mut &[u8], depth: usize) -> Result<Reply, BadReply> {
    let text = |text: &[u8]| Ok(Reply::Text(text.to_vec()));
    match next_part(frame)?.ok_or(BadReply)? {
        Part::Null => Ok(Reply::Null),
        Part::Text(b'+' | b'$' | b'(', string) => text(string),
        // Three letters and a colon precede the text.
        Part::Text(b'=', string) => text(string.get(4..).unwrap_or_default()),
        Part::Text(b'-' | b'!', error) => Ok(Reply::Error(StoreError::parse(error))),
        Part::Text(b'#', b"t") => Ok(Reply::Number(1)),
        Part::Text(b'#', b"f") => Ok(Reply::Number(0)),
        Part::Text(b':', number) => {
            let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
            number.map(Reply::Number).ok_or(BadReply)
        }
        Part::Items(b'*' | b'~' | b'%', count) => {
            items(frame, count, depth.checked_sub(1).ok_or(BadReply)?).map(Reply::List)
        }
        // No command of ours is answered by a fraction, and metadata within a reply is not expected.
        Part::Text(..) | Part::Items(..) => Err(BadReply),
    }
}

/// Appends a command: its name and its arguments.
pub fn pack(out: &mut Vec<u8>, parts: &[&[u8]]) {
    pack_head(out, parts.len());
    parts.iter().for_each(|part| pack_part(out, part));
}

/// Appends the head of a command of so many parts, its name included.
pub(super) fn pack_head(out: &mut Vec<u8>, parts: usize) {
    pack_length(out, b'*', parts);
}

/// Appends one part of a command. Its length precedes it, so it may contain anything.
pub(super) fn pack_part(out: &mut Vec<u8>, part: &[u8]) {
    pack_length(out, b'$', part.len());
    out.extend_from_slice(part);
    out.extend_from_slice(b"\r\n");
}

fn pack_length(out: &mut Vec<u8>, sign: u8, length: usize) {
    out.push(sign);
    let written = write!(out, "{length}\r\n");
    debug_assert!(written.is_ok(), "a vector takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `input` whole and split at every byte.
    #[track_caller]
    fn check(input: &[u8], expected: Result<&[StoreEvent], BadReply>) {
        for split in 0..=input.len() {
            let (mut reader, mut events) = (ReplyReader::default(), Vec::new());
            let (one, other) = input.split_at(split);
            let mut result = Ok(());
            for part in [one, other] {
                reader.feed(part);
                result = result.and_then(|()| reader.drain(|event| events.push(event)));
            }
            match expected {
                Ok(expected) => {
                    assert_eq!((result, events.as_slice()), (Ok(()), expected), "at {split}");
                    assert_eq!(reader.buffered_bytes(), 0);
                }
                Err(bad) => assert_eq!(result, Err(bad), "at {split}"),
            }
        }
    }

    fn text(text: &str) -> Reply {
        Reply::Text(text.as_bytes().to_vec())
    }

    fn error(kind: StoreErrorKind, text: &str) -> Reply {
        Reply::Error(StoreError { kind, text: text.to_owned() })
    }

    #[test]
    fn replies_of_all_types_are_read() {
        check(b"", Ok(&[]));
        let one = |input: &[u8], reply: Reply| check(input, Ok(&[StoreEvent::Reply(reply)]));
        one(b"+OK\r\n", text("OK"));
        one(b"$0\r\n\r\n", text(""));
        one(b"$4\r\n\r\n\r\n\r\n", text("\r\n\r\n"));
        one(b"=7\r\ntxt:abc\r\n", text("abc"));
        one(b":-12\r\n", Reply::Number(-12));
        one(b"#t\r\n", Reply::Number(1));
        for null in [&b"_\r\n"[..], b"$-1\r\n", b"*-1\r\n"] {
            one(null, Reply::Null);
        }
        let list = vec![text("OK"), Reply::List(vec![Reply::Number(1)]), Reply::List(vec![])];
        one(b"*3\r\n$2\r\nOK\r\n*1\r\n:1\r\n~0\r\n", Reply::List(list));
        let map = vec![text("server"), text("redis"), text("proto"), Reply::Number(3)];
        one(b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n", Reply::List(map));
        check(
            b"|2\r\n+ttl\r\n:3\r\n+share\r\n,0.5\r\n+OK\r\n:1\r\n",
            Ok(&[StoreEvent::Reply(text("OK")), StoreEvent::Reply(Reply::Number(1))]),
        );
    }

    #[test]
    fn pushes_are_told_from_replies() {
        let message =
            StoreEvent::Message { channel: b"dc:{0}:to:n".to_vec(), text: b"E \r\n".to_vec() };
        check(
            b"+OK\r\n>3\r\n$8\r\nsmessage\r\n$11\r\ndc:{0}:to:n\r\n$4\r\nE \r\n\r\n:1\r\n",
            Ok(&[StoreEvent::Reply(text("OK")), message, StoreEvent::Reply(Reply::Number(1))]),
        );
        check(b">3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n", Ok(&[StoreEvent::Subscribed]));
        check(b">2\r\n$10\r\ninvalidate\r\n_\r\n", Ok(&[StoreEvent::OtherPush]));
    }

    #[test]
    fn what_is_not_resp3_is_refused() {
        let deep = [&b"*1\r\n".repeat(REPLY_DEPTH_MAX + 1)[..], b":1\r\n"].concat();
        let bad: [&[u8]; 16] = [
            b"HTTP/1.1 400 Bad Request\r\n",
            b"$-2\r\n",
            b"$3\r\nabcde\r\n",
            b"*99999999999\r\n",
            b">0\r\n",
            b">2\r\n$8\r\nsmessage\r\n:1\r\n",
            b"$?\r\n;1\r\na\r\n;0\r\n",
            b",0.5\r\n",
            b":\r\n",
            b":1x\r\n",
            b"#x\r\n",
            b"*1\r\n|0\r\n",
            b"*1\r\n>1\r\n$10\r\nssubscribe\r\n",
            b"=-1\r\n",
            b"%-1\r\n",
            &deep,
        ];
        for input in bad {
            check(input, Err(BadReply));
        }
        let nested = [&b"*1\r\n".repeat(REPLY_DEPTH_MAX)[..], b":1\r\n"].concat();
        let mut reader = ReplyReader::default();
        reader.feed(&nested);
        assert_eq!(reader.drain(|_| {}), Ok(()));
    }

    #[test]
    fn a_reply_over_the_limit_is_refused_before_it_is_whole() {
        let mut reader = ReplyReader::default();
        reader.feed(format!("${}\r\n", REPLY_BYTES_MAX).as_bytes());
        let chunk = vec![b'x'; 1 << 20];
        let mut fed = 0;
        let bad = loop {
            reader.feed(&chunk);
            fed += chunk.len();
            if let Err(bad) = reader.drain(|_| panic!("no reply is whole")) {
                break bad;
            }
        };
        assert_eq!((bad, fed), (BadReply, REPLY_BYTES_MAX));
    }

    /// A store that never ends a line could otherwise have it searched again and again.
    #[test]
    fn a_line_over_the_limit_is_refused_before_it_is_whole() {
        let longest = "x".repeat(LINE_BYTES_MAX);
        let mut reader = ReplyReader::default();
        let mut texts = Vec::new();
        reader.feed(format!("+{longest}\r\n+{longest}\r").as_bytes());
        let mut take = |event| texts.push(event);
        assert_eq!(reader.drain(&mut take), Ok(()));
        reader.feed(b"\n");
        assert_eq!(reader.drain(&mut take), Ok(()));
        reader.feed(format!("+{longest}x\r").as_bytes());
        assert_eq!(reader.drain(&mut take), Err(BadReply));
        let longest = || StoreEvent::Reply(text(&longest));
        assert!(texts == [longest(), longest()], "{} texts", texts.len());
    }

    /// A large reply comes in hundreds of pieces.
    #[test]
    fn what_has_been_seen_of_a_reply_is_not_searched_again() {
        let item = [&b"*2\r\n$1000\r\n"[..], &[b'x'; 1000], b"\r\n:1\r\n"].concat();
        let mut reader = ReplyReader::default();
        reader.feed(b"*100\r\n");
        let mut replies = 0;
        for number in 0..100 {
            assert_eq!((reader.drain(|_| replies += 1), replies), (Ok(()), 0));
            assert_eq!(reader.seen.bytes, reader.buffered_bytes());
            assert_eq!(reader.seen.parts_left, 100 - number);
            reader.feed(&item);
        }
        assert_eq!((reader.drain(|_| replies += 1), replies), (Ok(()), 1));
        assert_eq!((reader.seen.bytes, reader.buffered_bytes()), (0, 0));
    }

    #[test]
    fn errors_are_told_apart() {
        let cases = [
            ("FENCED", StoreErrorKind::Fenced),
            ("TERMS 2/1/store", StoreErrorKind::Terms),
            ("ERR Function not found", StoreErrorKind::NoFunction),
            ("ERR Library 'dc_01234567' already exists", StoreErrorKind::LibraryExists),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                StoreErrorKind::OutOfMemory,
            ),
            ("READONLY You can't write against a read only replica.", StoreErrorKind::NotNow),
            ("NOREPLICAS Not enough good replicas to write.", StoreErrorKind::NotNow),
            ("LOADING Redis is loading the dataset in memory", StoreErrorKind::NotNow),
            ("ERR max number of clients reached", StoreErrorKind::NotNow),
            ("WRONGPASS invalid username-password pair", StoreErrorKind::NoRights),
            (
                "NOAUTH HELLO must be called with the client already authenticated",
                StoreErrorKind::NoRights,
            ),
            ("NOPROTO unsupported protocol version", StoreErrorKind::Unknown),
            ("WRONGTYPE Operation against a key", StoreErrorKind::Other),
            ("", StoreErrorKind::Other),
        ];
        for (line, kind) in cases {
            let input = format!("-{line}\r\n");
            check(input.as_bytes(), Ok(&[StoreEvent::Reply(error(kind, line))]));
        }
        let unknown = b"-ERR unknown command 'XYZ', with args beginning with: 'secret' \r\n";
        let shown = error(StoreErrorKind::Unknown, "ERR unknown command 'XYZ'");
        check(unknown, Ok(&[StoreEvent::Reply(shown)]));
        let long = [b"!300\r\n", &b"\n".repeat(300)[..], b"\r\n"].concat();
        check(&long, Ok(&[StoreEvent::Reply(error(StoreErrorKind::Other, &" ".repeat(200)))]));
    }

    #[test]
    fn what_is_missing_in_a_reply_is_empty() {
        let inner = Reply::List(vec![text("a")]);
        let list = vec![text("OK"), Reply::Number(7), inner, text("12"), Reply::Text(vec![0xFF])];
        let reply = Reply::List(list);
        assert_eq!(
            (reply.status(), reply.text(1), reply.text(4), reply.text(9)),
            ("OK", "", "", "")
        );
        assert_eq!(
            (reply.bytes(4), reply.bytes(2), reply.bytes(9)),
            (&b"\xFF"[..], &b""[..], &b""[..])
        );
        assert_eq!((reply.list(2).len(), reply.list(0).len(), reply.list(9).len()), (1, 0, 0));
        assert_eq!(
            (reply.number(1), reply.number(3), reply.number(0), reply.number(9)),
            (7, 12, 0, 0)
        );
        assert_eq!((text("FULL").status(), Reply::Null.status()), ("", ""));
        for bad in ["", "+1", "-1", "1.5", " 1", "99999999999999999999"] {
            assert_eq!(text(bad).as_number(), None, "{bad}");
        }
        assert_eq!(Reply::Number(-1).as_number(), None);
    }

    #[test]
    fn a_command_is_packed_with_the_lengths_of_its_parts() {
        let mut out = Vec::new();
        pack(&mut out, &[b"FCALL", b"", b"a\r\nb"]);
        assert_eq!(out, b"*3\r\n$5\r\nFCALL\r\n$0\r\n\r\n$4\r\na\r\nb\r\n");
    }

    /// A connection that has been sent a large reply once does not keep its memory.
    #[test]
    fn a_large_buffer_is_freed() {
        let mut reader = ReplyReader::default();
        let large = vec![b'x'; 2 * BUFFER_KEPT_MAX];
        reader.feed(format!("${}\r\n", large.len()).as_bytes());
        reader.feed(&large);
        reader.feed(b"\r\n");
        assert_eq!(reader.drain(|_| {}), Ok(()));
        assert_eq!((reader.buffer.capacity(), reader.buffered_bytes()), (0, 0));
    }
}
