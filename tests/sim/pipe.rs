//! A socket's stand-in: two bounded queues in memory that behave like the kernel's.
//!
//! Owns the bytes in flight, the edges that a poll reports, and the faults of the network. Must not
//! know what the bytes mean. The invariant: an edge is reported at the moments at which
//! edge-triggered epoll reports one. A readable edge follows when bytes or an end of stream have
//! arrived since the last one; a writable edge follows a `WouldBlock` when there is capacity again.
//! A fault may only do what a network can do: a call that gets less than there is gets another edge
//! for the rest.
//!
//! On a network with faults, some streams have a [`RecordLayer`], which keeps bytes back in both
//! directions as TLS does. The kernel knows nothing of these bytes and reports no edges for them.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;

use disposable_chat::clock::SeededEntropy;
use disposable_chat::net::Stream;

/// The random numbers of one seed.
pub struct Dice(SeededEntropy);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(SeededEntropy::new(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }
}

/// Properties of the network between a peer and the server.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Chance in percent that a read or a write does less than it could.
    pub fault_percent: usize,
    /// Capacity of each of the two buffers in the kernel.
    pub buffer_bytes: usize,
}

/// A network without faults and with large buffers.
pub const RELIABLE: Network = Network { fault_percent: 0, buffer_bytes: 256 * 1024 };

/// What one poll reports of one stream.
pub struct Edges {
    pub readable: bool,
    pub hangup: bool,
    pub writable: bool,
}

pub struct Pipe {
    dice: Dice,
    network: Network,
    /// An edge of one kind also reports the other kind if the stream is ready for it. Linux does
    /// so; other systems need not.
    reports_more: bool,
    /// The server's receive buffer.
    received: VecDeque<u8>,
    /// The end of the stream follows the last byte in `received`.
    fin: bool,
    /// The connection was reset; `true` once a call of the server has reported it.
    reset: Option<bool>,
    /// The peer has closed both directions: the next write of the server causes a reset.
    peer_closed: bool,
    /// A readable edge is to be reported.
    readable: bool,
    /// The server's send buffer, the wire and the peer's receive buffer in one.
    sent: VecDeque<u8>,
    /// A write got `WouldBlock`, and no writable edge has followed yet.
    blocked: bool,
    /// The server has shut down its direction.
    write_shut_down: bool,
    /// The server has closed its end.
    dropped: bool,
}

/// The state of the stream, as the peer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamState {
    Open,
    Ended,
    Reset,
}

impl Pipe {
    /// Moves up to `count` bytes into the server's receive buffer, as many as fit. Returns how
    /// many.
    pub fn deliver(&mut self, from: &mut VecDeque<u8>, count: usize) -> usize {
        let free_bytes = self.network.buffer_bytes.saturating_sub(self.received.len());
        let count = if self.dropped { from.len() } else { count.min(free_bytes).min(from.len()) };
        let bytes = front(from, count);
        if !self.dropped && count > 0 {
            self.received.extend(&bytes);
            self.readable = true;
        }
        count
    }

    /// The peer shuts down its direction, or closes both.
    pub fn shut_down(&mut self, directions: Shutdown) {
        self.peer_closed |= directions == Shutdown::Both;
        if !self.fin {
            self.fin = true;
            self.readable = true;
        }
    }

    /// The connection is reset. The server may or may not read what has arrived before.
    pub fn reset(&mut self) {
        if self.reset.is_none() {
            self.reset = Some(false);
            if self.dice.percent(50) {
                self.received.clear();
            }
            self.sent.clear();
            self.readable = true;
        }
    }

    /// The peer reads up to `count` bytes, and learns the state of the stream behind them.
    pub fn read_as_peer(&mut self, count: usize) -> (Vec<u8>, StreamState) {
        let count = count.min(self.sent.len());
        let bytes = front(&mut self.sent, count);
        let seen = match () {
            () if self.reset.is_some() => StreamState::Reset,
            () if !self.sent.is_empty() => StreamState::Open,
            () if self.write_shut_down || self.dropped => StreamState::Ended,
            () => StreamState::Open,
        };
        (bytes, seen)
    }

    /// Takes the edges that a poll reports now.
    pub fn poll(&mut self) -> Option<Edges> {
        if self.dropped {
            return None;
        }
        let mut readable = std::mem::take(&mut self.readable);
        let mut writable = self.blocked && self.wakes_writer();
        if writable {
            self.blocked = false;
        }
        if !(readable || writable) {
            return None;
        }
        let ended = self.fin || self.reset.is_some();
        if self.reports_more {
            writable |= self.free_bytes() > 0;
            readable |= !self.received.is_empty() || ended;
        }
        Some(Edges { readable, hangup: readable && ended, writable })
    }

    /// Whether a poll would report an edge.
    pub fn has_edge(&self) -> bool {
        !self.dropped && (self.readable || self.blocked && self.wakes_writer())
    }

    /// Bytes that the server can write without blocking.
    fn free_bytes(&self) -> usize {
        self.network.buffer_bytes.saturating_sub(self.sent.len())
    }

    /// Whether a blocked writer is woken. Linux wakes it when a third of the buffer is free.
    fn wakes_writer(&self) -> bool {
        self.free_bytes() * 3 >= self.network.buffer_bytes || self.reset.is_some()
    }

    /// Whether more bytes can arrive.
    pub fn has_capacity(&self) -> bool {
        self.dropped || self.received.len() < self.network.buffer_bytes
    }

    pub fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// Bytes that have arrived and that the server has not read.
    pub fn unread_bytes(&self) -> usize {
        self.received.len()
    }

    fn has_fault(&mut self) -> bool {
        self.network.fault_percent > 0 && self.dice.percent(self.network.fault_percent)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.received.is_empty() {
            return match self.reset {
                Some(true) => Ok(0),
                Some(false) => {
                    self.reset = Some(true);
                    Err(ErrorKind::ConnectionReset.into())
                }
                None if self.fin => Ok(0),
                None => Err(ErrorKind::WouldBlock.into()),
            };
        }
        let mut count = buffer.len().min(self.received.len());
        if self.has_fault() {
            match self.dice.below(4) {
                0 => return Err(ErrorKind::Interrupted.into()),
                // As if the bytes had arrived just after the call, which makes another edge.
                1 => {
                    self.readable = true;
                    return Err(ErrorKind::WouldBlock.into());
                }
                _ => {
                    self.readable = true;
                    count = 1 + self.dice.below(count);
                }
            }
        }
        buffer[..count].copy_from_slice(&front(&mut self.received, count));
        Ok(count)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(!self.write_shut_down, "the server writes after it has shut down its direction");
        match self.reset {
            Some(true) => return Err(ErrorKind::BrokenPipe.into()),
            Some(false) => {
                self.reset = Some(true);
                return Err(ErrorKind::ConnectionReset.into());
            }
            None => {}
        }
        let whole: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut count = whole.min(self.free_bytes());
        if self.has_fault() {
            match self.dice.below(4) {
                0 => return Err(ErrorKind::Interrupted.into()),
                1 => count = 0,
                _ => count = self.dice.below(count + 1),
            }
        }
        if count == 0 && whole > 0 {
            self.blocked = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.peer_closed {
            self.reset();
            return Ok(count);
        }
        let mut rest = count;
        for slice in slices {
            let bytes = &slice[..rest.min(slice.len())];
            self.sent.extend(bytes);
            rest -= bytes.len();
        }
        Ok(count)
    }
}

/// Takes `count` bytes off the front of a queue. It copies slices: in a debug build, an iterator
/// over the bytes costs more than everything that the server does with them.
pub fn front(queue: &mut VecDeque<u8>, count: usize) -> Vec<u8> {
    let (left, right) = queue.as_slices();
    let split = count.min(left.len());
    let bytes = [&left[..split], &right[..count - split]].concat();
    queue.drain(..count);
    bytes
}

/// The server's end of a stream. Dropping it closes it.
pub struct ServerEnd {
    pipe: Rc<RefCell<Pipe>>,
    /// Present on some streams of a network with faults.
    layer: Option<RecordLayer>,
}

/// A layer between the server and the kernel that keeps bytes back, as TLS does. It changes none of
/// them.
struct RecordLayer {
    dice: Dice,
    /// Read from the kernel, and not yet read by the server.
    decrypted: VecDeque<u8>,
    /// A read may find more, although no edge will report it.
    has_buffered_input: bool,
    /// Written by the server, and not yet written to the kernel.
    encrypted: Vec<u8>,
    /// The server's direction is to be shut down once `encrypted` is empty.
    shutdown_pending: bool,
}

/// The most that a record layer moves at once, in either direction.
const RECORD_BYTES_MAX: usize = 600;

impl RecordLayer {
    fn read(&mut self, pipe: &mut Pipe, buffer: &mut [u8]) -> io::Result<usize> {
        self.has_buffered_input = true;
        while self.decrypted.len() < buffer.len() {
            if self.dice.percent(10) {
                break; // A read may return less than there is.
            }
            let mut read = [0; RECORD_BYTES_MAX];
            match pipe.read(&mut read) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.has_buffered_input = false;
                    break;
                }
                Ok(count) if count > 0 => self.decrypted.extend(&read[..count]),
                // Bytes from before the end or the error are read first.
                _ if !self.decrypted.is_empty() => break,
                end => return end,
            }
        }
        if self.decrypted.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut count = buffer.len().min(self.decrypted.len());
        if self.dice.percent(10) {
            count = 1 + self.dice.below(count);
        }
        buffer[..count].copy_from_slice(&front(&mut self.decrypted, count));
        self.has_buffered_input |= !self.decrypted.is_empty();
        Ok(count)
    }

    fn write(&mut self, pipe: &mut Pipe, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush(pipe)?;
        for slice in slices {
            let free_bytes = RECORD_BYTES_MAX - self.encrypted.len();
            self.encrypted.extend_from_slice(&slice[..free_bytes.min(slice.len())]);
        }
        let count = self.encrypted.len();
        match self.flush(pipe) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(count),
            flushed => flushed.map(|()| count),
        }
    }

    fn flush(&mut self, pipe: &mut Pipe) -> io::Result<()> {
        while !self.encrypted.is_empty() {
            match pipe.write(&[IoSlice::new(&self.encrypted)]) {
                Ok(count) => drop(self.encrypted.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        pipe.write_shut_down |= self.shutdown_pending;
        Ok(())
    }
}

/// The peer's end of a stream.
pub struct PeerEnd(Rc<RefCell<Pipe>>);

impl PeerEnd {
    pub fn pipe(&self) -> RefMut<'_, Pipe> {
        self.0.borrow_mut()
    }
}

/// A stream with its two ends. The seed decides about the faults.
pub fn pair(seed: u64, network: Network) -> (PeerEnd, ServerEnd) {
    let mut dice = Dice::new(seed);
    let mut layer_dice = Dice::new(!seed);
    let has_layer = network.fault_percent > 0 && layer_dice.percent(30);
    let pipe = Rc::new(RefCell::new(Pipe {
        network,
        reports_more: dice.percent(25),
        dice,
        received: VecDeque::new(),
        fin: false,
        reset: None,
        peer_closed: false,
        readable: false,
        sent: VecDeque::new(),
        blocked: false,
        write_shut_down: false,
        dropped: false,
    }));
    let layer = has_layer.then(|| RecordLayer {
        dice: layer_dice,
        decrypted: VecDeque::new(),
        has_buffered_input: false,
        encrypted: Vec::new(),
        shutdown_pending: false,
    });
    (PeerEnd(pipe.clone()), ServerEnd { pipe, layer })
}

impl Read for ServerEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let pipe = &mut *self.pipe.borrow_mut();
        match &mut self.layer {
            Some(layer) => layer.read(pipe, buffer),
            None => pipe.read(buffer),
        }
    }
}

impl Write for ServerEnd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let pipe = &mut *self.pipe.borrow_mut();
        match &mut self.layer {
            Some(layer) => layer.write(pipe, slices),
            None => pipe.write(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Some(layer) => layer.flush(&mut self.pipe.borrow_mut()),
            None => Ok(()),
        }
    }
}

impl Stream for ServerEnd {
    fn shutdown_write(&mut self) -> io::Result<()> {
        let pipe = &mut *self.pipe.borrow_mut();
        match &mut self.layer {
            Some(layer) if !layer.encrypted.is_empty() => layer.shutdown_pending = true,
            _ => pipe.write_shut_down = true,
        }
        if pipe.reset.is_some() { Err(ErrorKind::NotConnected.into()) } else { Ok(()) }
    }

    fn has_buffered_input(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.has_buffered_input)
    }

    fn has_buffered_output(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| !layer.encrypted.is_empty())
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let mut pipe = self.pipe.borrow_mut();
        pipe.dropped = true;
        if !pipe.received.is_empty() && pipe.dice.percent(50) {
            // RFC 1122 §4.2.2.13: a stream that is closed with unread input is reset, and a reset
            // may destroy what the peer has not read yet.
            pipe.sent.clear();
        }
    }
}
