//! A blocking REST client, which creates sessions and rooms before a measurement.
//!
//! Owns the bytes of requests, and the rule where a response ends. Must not be used in a
//! measurement: `rest` measures requests, with the same bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::{Result, frame};

/// The number of pipelined requests.
const PIPELINE: usize = 64;

pub struct Http {
    stream: TcpStream,
    /// Received bytes of later responses.
    unread: Vec<u8>,
}

impl Http {
    pub fn connect(address: SocketAddr) -> Result<Http> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Http { stream, unread: Vec::new() })
    }

    /// Sends a request and returns the body of the response, which must be a success.
    pub fn ask(&mut self, request: &[u8]) -> Result<String> {
        self.stream.write_all(request)?;
        self.answer()
    }

    /// Pipelines all requests. `on_answer` gets the bodies in the order of the requests.
    pub fn ask_all(
        &mut self,
        requests: impl IntoIterator<Item = Vec<u8>>,
        mut on_answer: impl FnMut(String) -> Result<()>,
    ) -> Result<()> {
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let some: Vec<Vec<u8>> = requests.by_ref().take(PIPELINE).collect();
            self.stream.write_all(&some.concat())?;
            for _ in some {
                on_answer(self.answer()?)?;
            }
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<String> {
        let mut scratch = [0; 16 * 1024];
        loop {
            if let Some(answer) = answer(&self.unread)? {
                let body = String::from_utf8_lossy(&self.unread[answer.start..answer.end]);
                let body = if answer.is_success { Ok(body.into()) } else { Err(body.into()) };
                self.unread.drain(..answer.end);
                return body;
            }
            let got = self.stream.read(&mut scratch)?;
            if got == 0 {
                return Err("the server has ended the connection".into());
            }
            self.unread.extend_from_slice(&scratch[..got]);
        }
    }
}

/// A complete response.
pub struct Answer {
    pub is_success: bool,
    /// The range of its body.
    pub start: usize,
    pub end: usize,
}

/// The response at the start of these bytes, or `None` if it is incomplete. It must have a
/// `Content-Length`, as all responses of this API do.
pub fn answer(bytes: &[u8]) -> Result<Option<Answer>> {
    let Some(start) = frame::end_of_head(bytes) else { return Ok(None) };
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    head.parse(&bytes[..start])?;
    let mut lengths =
        head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = lengths.next().ok_or("an answer without a length")?.value;
    let end = start + std::str::from_utf8(length)?.parse::<usize>()?;
    let is_success = head.code.is_some_and(|code| (200..300).contains(&code));
    Ok((bytes.len() >= end).then_some(Answer { is_success, start, end }))
}

pub fn get(path: &str, session: Option<&str>) -> Vec<u8> {
    request("GET", path, session, "")
}

pub fn post(path: &str, session: Option<&str>, body: &str) -> Vec<u8> {
    request("POST", path, session, body)
}

pub fn delete(path: &str, session: &str) -> Vec<u8> {
    request("DELETE", path, Some(session), "")
}

fn request(method: &str, path: &str, session: Option<&str>, body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    if let Some(session) = session {
        text += &format!("Authorization: Bearer {session}\r\n");
    }
    if method == "POST" {
        text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    (text + "\r\n" + body).into_bytes()
}

/// The request as a proxy passes it on that names the client's address.
pub fn forwarded(mut request: Vec<u8>, address: &str) -> Vec<u8> {
    let first = request.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let field = format!("X-Forwarded-For: {address}\r\n");
    request.splice(first..first, field.into_bytes());
    request
}

/// The request that opens a session.
pub fn open_session(name: &str) -> Vec<u8> {
    post("/sessions", None, &format!(r#"{{"username":"{name}"}}"#))
}

/// The text of a field in a JSON body.
pub fn field(body: &str, name: &str) -> Result<String> {
    let value: serde_json::Value = serde_json::from_str(body)?;
    let text = value.get(name).and_then(|value| value.as_str());
    Ok(text.ok_or_else(|| format!("no {name} in {body}"))?.to_owned())
}
