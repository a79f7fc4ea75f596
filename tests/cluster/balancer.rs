//! A balancer without memory: it sends each request, and each socket, to the next node.
//!
//! It splits what a client sends into requests (RFC 9112 §2 and §6) and opens a connection to the next
//! node for each, so that no two requests of a client reach the same node by accident. Once a node
//! has answered an upgrade, or if a request can't be split, both directions are passed on as they are.
//! Ends and resets of either peer reach the other. Must not know what requests mean.
//!
//! Threads are simpler than an event loop, and a test has few connections: one for each client, and a
//! second one once it only passes on.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, SockRef, Socket, Type};

/// What the kernel keeps for each socket and direction. With its own megabytes, it would take a slow
/// reader much longer to be one.
const KERNEL_BYTES_MAX: usize = 16 * 1024;

/// The longest head that is split. A node refuses shorter ones already.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A connection to a node that does not come about in this time goes to the next node: a stopped
/// process still accepts, so that only a full backlog takes so long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A balancer that runs. It ends with this value; connections that it has passed on end with their nodes.
pub struct Balancer {
    address: SocketAddr,
    nodes: Arc<Nodes>,
    has_ended: Arc<AtomicBool>,
}

/// The nodes, and whose turn it is.
struct Nodes {
    addresses: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
}

impl Balancer {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(nodes: Vec<SocketAddr>) -> Balancer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        SockRef::from(&listener).set_recv_buffer_size(KERNEL_BYTES_MAX).expect("a buffer size");
        let address = listener.local_addr().expect("an address");
        let nodes = Arc::new(Nodes { addresses: Mutex::new(nodes), next: AtomicUsize::new(0) });
        let has_ended = Arc::new(AtomicBool::new(false));
        let (all, ended) = (Arc::clone(&nodes), Arc::clone(&has_ended));
        thread::spawn(move || {
            for client in listener.incoming() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(client), nodes) = (client, Arc::clone(&all)) else { continue };
                // An error ends the connection, as it would at a real balancer.
                thread::spawn(move || serve(client, &nodes).unwrap_or_default());
            }
        });
        Balancer { address, nodes, has_ended }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, new requests and sockets go to these nodes.
    #[allow(dead_code, reason = "only `tests/cluster` stops nodes")]
    pub fn set_nodes(&self, nodes: Vec<SocketAddr>) {
        *self.nodes.addresses.lock().unwrap() = nodes;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Nodes {
    /// A connection to the next node, or to the next but one if that does not accept, and so on.
    fn connect(&self) -> io::Result<TcpStream> {
        let addresses = self.addresses.lock().unwrap().clone();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut last = io::Error::from(ErrorKind::NotConnected);
        for n in 0..addresses.len() {
            let address = addresses[(turn + n) % addresses.len()];
            match connect(address) {
                Ok(node) => return Ok(node),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let node = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Before the connection, so that its window is never larger.
    node.set_recv_buffer_size(KERNEL_BYTES_MAX)?;
    node.connect_timeout(&address.into(), CONNECT_TIMEOUT)?;
    bounded(node.into())
}

fn bounded(stream: TcpStream) -> io::Result<TcpStream> {
    SockRef::from(&stream).set_send_buffer_size(KERNEL_BYTES_MAX)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One client, until either side ends.
fn serve(client: TcpStream, nodes: &Nodes) -> io::Result<()> {
    let mut client = bounded(client)?;
    let forwarded = client.peer_addr()?.ip();
    let mut received = Vec::new();
    loop {
        let Some(mut request) = RequestHead::read(&mut client, &mut received)? else {
            return Ok(());
        };
        if forwarded != Ipv4Addr::LOCALHOST {
            request.forward_for(&forwarded.to_string());
        }
        let mut node = match nodes.connect() {
            Ok(node) => node,
            Err(_) => return client.write_all(BAD_GATEWAY),
        };
        match exchange(&mut client, &mut received, &mut node, request)? {
            After::Next => {}
            After::Ended => return Ok(()),
            After::Piped => {
                node.write_all(&received)?;
                return pipe(client, node);
            }
        }
    }
}

const BAD_GATEWAY: &[u8] =
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What follows a request and its answer.
enum After {
    /// Another request may.
    Next,
    /// The node has ended the connection, and so does the balancer.
    Ended,
    /// Whatever comes is passed on: an upgrade, or nothing that can be split.
    Piped,
}

/// Passes on one request and its answer.
fn exchange(
    client: &mut TcpStream,
    received: &mut Vec<u8>,
    node: &mut TcpStream,
    mut request: RequestHead,
) -> io::Result<After> {
    node.write_all(&request.bytes)?;
    let Some(mut content) = request.content.take() else { return Ok(After::Piped) };
    let mut answer = Answering::new(request.is_head);
    let mut buffer = [0; 16 * 1024];
    let mut has_client_ended = false;
    loop {
        let sent = content.take(received);
        if sent > 0 {
            // A node that has refused the content may have closed: its answer still counts.
            let _ = node.write_all(&received[..sent]);
            received.drain(..sent);
        }
        let takes_more = !has_client_ended && received.len() < HEAD_BYTES_MAX;
        let mut ready = [PollFd::new(&*node, PollFlags::IN), PollFd::new(&*client, PollFlags::IN)];
        // A peer that has ended is always ready.
        match poll(&mut ready[..1 + usize::from(takes_more)], None) {
            Err(error) if error == rustix::io::Errno::INTR => continue,
            polled => polled?,
        };
        let [from_node, from_client] = [ready[0].revents(), ready[1].revents()];
        if takes_more && !from_client.is_empty() {
            match client.read(&mut buffer) {
                Ok(0) => {
                    has_client_ended = true;
                    node.shutdown(Shutdown::Write)?;
                }
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) => return reset(node, error),
            }
        }
        if from_node.is_empty() {
            continue;
        }
        let count = match node.read(&mut buffer) {
            Ok(count) => count,
            Err(error) => return reset(client, error),
        };
        if count == 0 {
            // Within an answer, or without any: the client sees the same.
            finish(client, received);
            return Ok(After::Ended);
        }
        let (used, state) = answer.take(&buffer[..count]);
        client.write_all(&buffer[..used])?;
        match state {
            Answer::Unfinished => {}
            Answer::Upgraded => {
                client.write_all(&buffer[used..count])?;
                return Ok(After::Piped);
            }
            Answer::Done { closes: true } => {
                finish(client, received);
                return Ok(After::Ended);
            }
            Answer::Done { closes: false } if has_client_ended => return Ok(After::Ended),
            Answer::Done { closes: false } => {
                // Content that the node has answered early is not the next request.
                while !content.has_ended() {
                    let count = client.read(&mut buffer)?;
                    if count == 0 {
                        return Ok(After::Ended);
                    }
                    received.extend_from_slice(&buffer[..count]);
                    let rest = content.take(received);
                    received.drain(..rest);
                }
                return Ok(After::Next);
            }
        }
    }
}

/// Ends the connection to a client with FIN. What it still sends is read first, for a while: else the
/// kernel would answer it with a reset, and the client could lose the end of its answer (RFC 9112 §9.6).
fn finish(client: &mut TcpStream, received: &mut Vec<u8>) {
    received.clear();
    let _ = client.shutdown(Shutdown::Write);
    let _ = client.set_read_timeout(Some(Duration::from_secs(2)));
    let mut buffer = [0; 4096];
    while client.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

/// Passes a reset on.
fn reset<T>(other: &TcpStream, error: io::Error) -> io::Result<T> {
    SockRef::from(other).set_linger(Some(Duration::ZERO))?;
    Err(error)
}

/// Passes both directions on, until both have ended or one has failed.
fn pipe(client: TcpStream, node: TcpStream) -> io::Result<()> {
    let (from, to) = (node.try_clone()?, client.try_clone()?);
    let answers = thread::spawn(move || pass_on(from, to));
    let sent = pass_on(client, node);
    sent.and(answers.join().expect("it does not panic"))
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return to.shutdown(Shutdown::Write),
            Ok(count) => {
                if let Err(error) = to.write_all(&buffer[..count]) {
                    return end_both(&to, &from, error);
                }
            }
            Err(error) => return end_both(&from, &to, error),
        }
    }
}

/// One peer is gone: the other one gets a reset as soon as both threads have let go of it. The other
/// thread may be reading from either.
fn end_both(gone: &TcpStream, other: &TcpStream, error: io::Error) -> io::Result<()> {
    SockRef::from(other).set_linger(Some(Duration::ZERO))?;
    let _ = gone.shutdown(Shutdown::Both);
    // Without sending FIN.
    let _ = other.shutdown(Shutdown::Read);
    Err(error)
}

/// The head of a request, and how its content ends.
pub struct RequestHead {
    pub bytes: Vec<u8>,
    is_head: bool,
    /// `None`: it can't be split.
    pub content: Option<Content>,
}

impl RequestHead {
    /// The next head; `None` if the client ends before it has sent a byte of one.
    fn read(client: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<Option<RequestHead>> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(head) = RequestHead::split(received) {
                return Ok(Some(head));
            }
            let count = client.read(&mut buffer)?;
            if count == 0 && received.is_empty() {
                return Ok(None);
            }
            if count == 0 || received.len() > HEAD_BYTES_MAX {
                // A node says what is wrong with half a head.
                let bytes = std::mem::take(received);
                return Ok(Some(RequestHead { bytes, is_head: false, content: None }));
            }
            received.extend_from_slice(&buffer[..count]);
        }
    }

    /// Takes a whole head from the front.
    pub fn split(received: &mut Vec<u8>) -> Option<RequestHead> {
        let end = received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let bytes: Vec<u8> = received.drain(..end).collect();
        let content = Fields::of(&bytes).content(Content::Length(0));
        let is_head = bytes.starts_with(b"HEAD ");
        Some(RequestHead { bytes, is_head, content })
    }

    /// Adds the client's address, as a proxy does.
    fn forward_for(&mut self, address: &str) {
        let end = self.bytes.len() - 2;
        let field = format!("X-Forwarded-For: {address}\r\n");
        if self.bytes.ends_with(b"\r\n\r\n") {
            self.bytes.splice(end..end, field.into_bytes());
        }
    }
}

/// The fields of a head that say how its message ends.
#[derive(Default)]
struct Fields {
    length: Option<usize>,
    is_chunked: bool,
    closes: bool,
    is_invalid: bool,
}

impl Fields {
    fn of(head: &[u8]) -> Fields {
        let mut fields = Fields::default();
        let Ok(head) = std::str::from_utf8(head) else {
            return Fields { is_invalid: true, ..fields };
        };
        for line in head.split("\r\n").skip(1) {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                fields.is_invalid |= fields.length.is_some() || value.parse::<usize>().is_err();
                fields.length = value.parse().ok();
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                fields.is_invalid |= fields.is_chunked || !value.eq_ignore_ascii_case("chunked");
                fields.is_chunked = true;
            } else if name.eq_ignore_ascii_case("connection") {
                fields.closes |=
                    value.split(',').any(|one| one.trim().eq_ignore_ascii_case("close"));
            }
        }
        fields.is_invalid |= fields.is_chunked && fields.length.is_some();
        fields
    }

    /// `otherwise`: what a head without either field means.
    fn content(&self, otherwise: Content) -> Option<Content> {
        match (self.is_invalid, self.is_chunked, self.length) {
            (true, _, _) => None,
            (_, true, _) => Some(Content::Chunks(Chunks::default())),
            (_, _, Some(length)) => Some(Content::Length(length)),
            (_, _, None) => Some(otherwise),
        }
    }
}

/// Content that is passed on.
pub enum Content {
    /// Bytes left.
    Length(usize),
    Chunks(Chunks),
    UntilTheEnd,
}

impl Content {
    /// How many of the next bytes belong to it.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        match self {
            Content::Length(left) => {
                let count = bytes.len().min(*left);
                *left -= count;
                count
            }
            Content::Chunks(chunks) => chunks.take(bytes),
            Content::UntilTheEnd => bytes.len(),
        }
    }

    pub fn has_ended(&self) -> bool {
        match self {
            Content::Length(left) => *left == 0,
            Content::Chunks(chunks) => chunks.state == ChunkState::Ended,
            Content::UntilTheEnd => false,
        }
    }
}

/// Chunked content (RFC 9112 §7.1). What is no chunk is passed on as if it were a line: a node judges it.
#[derive(Default)]
pub struct Chunks {
    state: ChunkState,
    /// The line so far, or the bytes of the chunk that are left, its end included.
    line: Vec<u8>,
    left: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    Data,
    Trailer,
    Ended,
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && self.state != ChunkState::Ended {
            if self.state == ChunkState::Data {
                let count = self.left.min(bytes.len() - taken);
                self.left -= count;
                taken += count;
                if self.left == 0 {
                    self.state = ChunkState::Size;
                }
                continue;
            }
            self.line.push(bytes[taken]);
            taken += 1;
            if self.line.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&self.line).trim().to_owned();
                self.line.clear();
                self.line_ended(&line);
            }
        }
        taken
    }

    fn line_ended(&mut self, line: &str) {
        let size = line.split(';').next().unwrap_or_default().trim();
        match usize::from_str_radix(size, 16) {
            _ if self.state == ChunkState::Trailer => {
                if line.is_empty() {
                    self.state = ChunkState::Ended;
                }
            }
            Ok(0) => self.state = ChunkState::Trailer,
            Ok(size) => (self.state, self.left) = (ChunkState::Data, size.saturating_add(2)),
            Err(_) => {}
        }
    }
}

/// A node's answer to one request, while it is passed on.
pub struct Answering {
    is_to_head: bool,
    head: Vec<u8>,
    /// After the head: the content, and whether the connection ends with it.
    content: Option<(Content, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Unfinished,
    Upgraded,
    Done { closes: bool },
}

impl Answering {
    pub fn new(is_to_head: bool) -> Answering {
        Answering { is_to_head, head: Vec::new(), content: None }
    }

    /// How many of the next bytes belong to the answer, and what it is then.
    pub fn take(&mut self, bytes: &[u8]) -> (usize, Answer) {
        let mut used = 0;
        loop {
            if let Some((content, closes)) = &mut self.content {
                used += content.take(&bytes[used..]);
                let done = Answer::Done { closes: *closes };
                return (used, if content.has_ended() { done } else { Answer::Unfinished });
            }
            if used == bytes.len() {
                return (used, Answer::Unfinished);
            }
            self.head.push(bytes[used]);
            used += 1;
            if !self.head.ends_with(b"\r\n\r\n") {
                continue;
            }
            let head = std::mem::take(&mut self.head);
            let status = head.get(9..12).and_then(|status| std::str::from_utf8(status).ok());
            let status: u16 = status.and_then(|status| status.parse().ok()).unwrap_or_default();
            let fields = Fields::of(&head);
            match status {
                101 => return (used, Answer::Upgraded),
                // An interim answer, which another one follows.
                100..=199 => continue,
                _ => {}
            }
            let none = Content::Length(0);
            let content = match status {
                204 | 304 => Some(none),
                _ if self.is_to_head => Some(none),
                _ => fields.content(Content::UntilTheEnd),
            };
            self.content = Some((content.unwrap_or(Content::UntilTheEnd), fields.closes));
        }
    }
}
