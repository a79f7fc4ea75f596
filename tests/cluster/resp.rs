//! A blocking client of a store: RESP3, with pushes.
//!
//! Owns one connection. Must not know the functions, the server's code, or whether a process or a model
//! is at the other end. The invariant: replies come in the order of the commands; a push may come before
//! any of them, and is kept.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a reply may take. Generous, since other tests run at the same time.
const DEADLINE: Duration = Duration::from_secs(60);

/// A reply, or a part of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    Nil,
    Number(i64),
    Text(String),
    /// An error. Tests expect some.
    Error(String),
    List(Vec<Value>),
}

impl Value {
    /// A text, or the text of a number.
    pub fn text(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// The parts of a list; none of anything else.
    pub fn list(&self) -> &[Value] {
        if let Value::List(list) = self { list } else { &[] }
    }

    /// A part of a list.
    pub fn at(&self, place: usize) -> &Value {
        self.list().get(place).unwrap_or(&Value::Nil)
    }

    pub fn number(&self) -> i64 {
        self.text().parse().unwrap_or_else(|_| panic!("a number: {self}"))
    }
}

/// Texts as they are, `''` for an empty one, `-` for nil, lists in brackets: short enough to be expected
/// literally.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => f.write_str("-"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Text(text) if text.is_empty() => f.write_str("''"),
            Value::Text(text) => f.write_str(text),
            Value::Error(text) => write!(f, "!{text}"),
            Value::List(list) => {
                f.write_str("[")?;
                for (place, value) in list.iter().enumerate() {
                    let space = if place > 0 { " " } else { "" };
                    write!(f, "{space}{value}")?;
                }
                f.write_str("]")
            }
        }
    }
}

/// What a connection goes over.
pub trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A connection to a store.
pub struct Client {
    stream: BufReader<Box<dyn Stream>>,
    pushes: VecDeque<Vec<Value>>,
}

impl Client {
    /// Connects. `None`: the store does not accept connections yet.
    pub fn connect(socket: &Path) -> Option<Client> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        Some(Client::over(stream))
    }

    /// A connection that is open.
    pub fn over(stream: impl Stream + 'static) -> Client {
        Client { stream: BufReader::new(Box::new(stream)), pushes: VecDeque::new() }
    }

    /// Sends a command without waiting for its reply.
    pub fn send(&mut self, command: &[&str]) {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for part in command {
            bytes.extend(format!("${}\r\n{part}\r\n", part.len()).bytes());
        }
        self.stream.get_mut().write_all(&bytes).expect("the store reads");
    }

    /// The next reply.
    pub fn receive(&mut self) -> Value {
        loop {
            match self.frame() {
                (b'>', Value::List(push)) => self.pushes.push_back(push),
                (_, reply) => return reply,
            }
        }
    }

    /// The reply to a command.
    pub fn call(&mut self, command: &[&str]) -> Value {
        self.send(command);
        self.receive()
    }

    /// Like [`Client::call`], for a command that cannot fail.
    pub fn must(&mut self, command: &[&str]) -> Value {
        match self.call(command) {
            Value::Error(error) => panic!("{command:?}: {error}"),
            reply => reply,
        }
    }

    /// Subscribes to a sharded channel.
    pub fn subscribe(&mut self, channel: &str) {
        self.send(&["SSUBSCRIBE", channel]);
        self.must(&["PING"]);
        let answer = self.pushes.pop_back().expect("the answer is a push");
        assert_eq!(answer[0].text(), "ssubscribe");
    }

    /// How many pushes came before the last reply and were not looked at.
    pub fn pushes_before_reply(&self) -> usize {
        self.pushes.len()
    }

    /// What other connections have published until now, or this one.
    pub fn pushes(&mut self) -> Vec<String> {
        self.must(&["PING"]);
        let messages = self.pushes.drain(..).filter(|push| push[0].text() == "smessage");
        messages.map(|push| push[2].text()).collect()
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("the store answers in time");
        let line = String::from_utf8(line).expect("a line is UTF-8");
        line.strip_suffix("\r\n").expect("the store has not closed the connection").to_owned()
    }

    fn frame(&mut self) -> (u8, Value) {
        let line = self.line();
        let (kind, rest) = (line.as_bytes()[0], &line[1..]);
        let length = rest.parse().ok();
        let value = match kind {
            b'+' | b'#' | b',' => Value::Text(rest.into()),
            b'-' => Value::Error(rest.into()),
            b':' => Value::Number(rest.parse().expect("a number")),
            b'_' => Value::Nil,
            b'$' | b'=' => length.map_or(Value::Nil, |length| self.bulk(length)),
            b'*' | b'~' | b'>' => length.map_or(Value::Nil, |length| self.values(length)),
            b'%' => self.values(2 * length.expect("a length")),
            _ => panic!("no RESP3: {line}"),
        };
        (kind, value)
    }

    fn values(&mut self, length: usize) -> Value {
        Value::List((0..length).map(|_| self.frame().1).collect())
    }

    fn bulk(&mut self, length: usize) -> Value {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).expect("the store answers in time");
        bytes.truncate(length);
        Value::Text(String::from_utf8(bytes).expect("tests store UTF-8"))
    }
}
