//! The store's protocol: commands as they come, replies as they go.
//!
//! Owns the values of RESP3 that the model uses. Must not know what a command means. The invariant: a
//! command is taken when it is whole, whatever pieces it comes in.

use std::fmt;

/// A reply, or a part of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Nil,
    Number(i64),
    /// A double; those of the library are whole numbers.
    Score(i64),
    Text(Vec<u8>),
    /// A text without line ends.
    Status(String),
    Error(String),
    List(Vec<Reply>),
    Set(Vec<Reply>),
    /// Keys and values.
    Map(Vec<(Reply, Reply)>),
    Push(Vec<Reply>),
}

impl Reply {
    pub fn ok() -> Reply {
        Reply::Status("OK".into())
    }

    pub fn text(text: impl AsRef<[u8]>) -> Reply {
        Reply::Text(text.as_ref().to_vec())
    }

    pub fn texts(texts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Reply> {
        texts.into_iter().map(Reply::text).collect()
    }

    /// The parts of a list or set; none of anything else.
    pub fn list(&self) -> &[Reply] {
        match self {
            Reply::List(list) | Reply::Set(list) | Reply::Push(list) => list,
            _ => &[],
        }
    }

    /// Adds the reply in RESP3.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut line = |text: String| out.extend_from_slice(text.as_bytes());
        match self {
            Reply::Nil => line("_\r\n".into()),
            Reply::Number(number) => line(format!(":{number}\r\n")),
            Reply::Score(score) => line(format!(",{score}\r\n")),
            Reply::Status(text) => line(format!("+{text}\r\n")),
            Reply::Error(text) => line(format!("-{}\r\n", text.replace(['\r', '\n'], " "))),
            Reply::Text(text) => {
                line(format!("${}\r\n", text.len()));
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            Reply::List(list) | Reply::Set(list) | Reply::Push(list) => {
                let sign = match self {
                    Reply::List(_) => '*',
                    Reply::Set(_) => '~',
                    _ => '>',
                };
                line(format!("{sign}{}\r\n", list.len()));
                list.iter().for_each(|part| part.encode(out));
            }
            Reply::Map(pairs) => {
                line(format!("%{}\r\n", pairs.len()));
                for (key, value) in pairs {
                    key.encode(out);
                    value.encode(out);
                }
            }
        }
    }
}

/// Texts as they are, `''` for an empty one, `-` for nil, lists in brackets.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Nil => f.write_str("-"),
            Reply::Number(number) | Reply::Score(number) => write!(f, "{number}"),
            Reply::Text(text) if text.is_empty() => f.write_str("''"),
            Reply::Text(text) => f.write_str(&String::from_utf8_lossy(text)),
            Reply::Status(text) => f.write_str(text),
            Reply::Error(text) => write!(f, "!{text}"),
            Reply::Map(pairs) => {
                let parts = pairs.iter().flat_map(|(key, value)| [key, value]);
                write!(f, "{}", Reply::List(parts.cloned().collect()))
            }
            Reply::List(list) | Reply::Set(list) | Reply::Push(list) => {
                f.write_str("[")?;
                for (place, part) in list.iter().enumerate() {
                    let space = if place > 0 { " " } else { "" };
                    write!(f, "{space}{part}")?;
                }
                f.write_str("]")
            }
        }
    }
}

/// The number on a line that begins with `sign`, and what follows the line.
fn line(input: &[u8], sign: u8) -> Option<(usize, &[u8])> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    let (first, digits) = input[..end].split_first().expect("a line is not empty");
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    assert_eq!(*first, sign, "commands are lists of texts");
    Some((number.expect("a length"), &input[end + 2..]))
}

/// Takes the first command, if all of it is there.
pub fn take_command(input: &mut Vec<u8>) -> Option<Vec<Vec<u8>>> {
    let (count, mut rest) = line(input, b'*')?;
    let mut command = Vec::new();
    for _ in 0..count {
        let (length, text) = line(rest, b'$')?;
        command.push(text.get(..length)?.to_vec());
        rest = text.get(length + 2..)?;
    }
    let taken = input.len() - rest.len();
    input.drain(..taken);
    Some(command)
}
