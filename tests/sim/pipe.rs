//! A socket's stand-in: two queues in memory with the manners of a kernel.
//!
//! Edges are epoll's, edge-triggered: a readable one when bytes or an end have arrived since the
//! last was reported, a writable one when room appears after a `WouldBlock`. A fault may only do
//! what a network can: whoever is told less than there is gets another edge for the rest.
//!
//! In bad weather some lines have something on them that holds bytes back in both directions, as TLS
//! does. The kernel knows nothing of those, and makes no edges for them.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;

use disposable_chat::clock::SeededEntropy;
use disposable_chat::net::Stream;

/// The seed's dice.
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

/// How unkind the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Chance in percent that a call does less than it could.
    pub faults: usize,
    /// What each of the kernel's two buffers holds.
    pub buffer_bytes: usize,
}

pub const CALM: Weather = Weather { faults: 0, buffer_bytes: 256 * 1024 };

/// What a poll reports of one stream.
pub struct Edges {
    pub readable: bool,
    pub hangup: bool,
    pub writable: bool,
}

pub struct Pipe {
    dice: Dice,
    weather: Weather,
    /// Epoll reports whatever is true whenever it reports; it needn't.
    talkative: bool,
    /// The server's receive buffer, and whether an end lies behind it.
    arrived: VecDeque<u8>,
    fin: bool,
    /// The line was reset; `true` once the server was told.
    reset: Option<bool>,
    /// The peer has closed both directions: what it is sent is answered by a reset.
    gone: bool,
    readable: bool,
    /// The server's send buffer, the wire and the peer's receive buffer.
    sent: VecDeque<u8>,
    /// A write was told `WouldBlock`, and no edge has followed.
    blocked: bool,
    /// The server has ended its direction.
    write_over: bool,
    /// The server has dropped its stream.
    dropped: bool,
}

/// What has become of a line, as its peer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    Open,
    End,
    Reset,
}

impl Pipe {
    /// Bytes on their way to the server, as many as fit; at most `count`.
    pub fn arrive(&mut self, from: &mut VecDeque<u8>, count: usize) -> usize {
        let room = self.weather.buffer_bytes.saturating_sub(self.arrived.len());
        let count = if self.dropped { from.len() } else { count.min(room).min(from.len()) };
        let bytes = front(from, count);
        if !self.dropped && count > 0 {
            self.arrived.extend(&bytes);
            self.readable = true;
        }
        count
    }

    /// The peer ends its direction, or (`gone`) both.
    pub fn finish(&mut self, gone: bool) {
        self.gone |= gone;
        if !self.fin {
            self.fin = true;
            self.readable = true;
        }
    }

    /// The line breaks. What had arrived may or may not be read first.
    pub fn reset(&mut self) {
        if self.reset.is_none() {
            self.reset = Some(false);
            if self.dice.percent(50) {
                self.arrived.clear();
            }
            self.sent.clear();
            self.readable = true;
        }
    }

    /// What the peer reads.
    pub fn take(&mut self, count: usize) -> (Vec<u8>, Seen) {
        let count = count.min(self.sent.len());
        let bytes = front(&mut self.sent, count);
        let seen = match () {
            () if self.reset.is_some() => Seen::Reset,
            () if !self.sent.is_empty() => Seen::Open,
            () if self.write_over || self.dropped => Seen::End,
            () => Seen::Open,
        };
        (bytes, seen)
    }

    /// What the poll would say now, once.
    pub fn poll(&mut self) -> Option<Edges> {
        if self.dropped {
            return None;
        }
        // Linux wakes a writer when a third of the buffer is free.
        let room = self.weather.buffer_bytes.saturating_sub(self.sent.len());
        let roomy = room * 3 >= self.weather.buffer_bytes || self.reset.is_some();
        let mut readable = std::mem::take(&mut self.readable);
        let mut writable = self.blocked && roomy;
        if writable {
            self.blocked = false;
        }
        if !(readable || writable) {
            return None;
        }
        let ended = self.fin || self.reset.is_some();
        if self.talkative {
            writable |= room > 0;
            readable |= !self.arrived.is_empty() || ended;
        }
        Some(Edges { readable, hangup: readable && ended, writable })
    }

    /// Whether the poll would say anything.
    pub fn is_due(&self) -> bool {
        let room = self.weather.buffer_bytes.saturating_sub(self.sent.len());
        let roomy = room * 3 >= self.weather.buffer_bytes || self.reset.is_some();
        !self.dropped && (self.readable || self.blocked && roomy)
    }

    /// Whether more could arrive.
    pub fn has_room(&self) -> bool {
        self.dropped || self.arrived.len() < self.weather.buffer_bytes
    }

    pub fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// Bytes that the server has not read.
    pub fn unread(&self) -> usize {
        self.arrived.len()
    }

    fn fault(&mut self) -> bool {
        self.weather.faults > 0 && self.dice.percent(self.weather.faults)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.arrived.is_empty() {
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
        let mut count = buffer.len().min(self.arrived.len());
        if self.fault() {
            match self.dice.below(4) {
                0 => return Err(ErrorKind::Interrupted.into()),
                // It comes just after the call: with an edge of its own.
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
        buffer[..count].copy_from_slice(&front(&mut self.arrived, count));
        Ok(count)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(!self.write_over, "written after the end of our direction");
        match self.reset {
            Some(true) => return Err(ErrorKind::BrokenPipe.into()),
            Some(false) => {
                self.reset = Some(true);
                return Err(ErrorKind::ConnectionReset.into());
            }
            None => {}
        }
        let whole: usize = slices.iter().map(|slice| slice.len()).sum();
        let room = self.weather.buffer_bytes.saturating_sub(self.sent.len());
        let mut count = whole.min(room);
        if self.fault() {
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
        if self.gone {
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

/// Takes `count` bytes off a queue, all at once: one by one costs more than the server's work.
fn front(queue: &mut VecDeque<u8>, count: usize) -> Vec<u8> {
    let (left, right) = queue.as_slices();
    let split = count.min(left.len());
    let bytes = [&left[..split], &right[..count - split]].concat();
    queue.drain(..count);
    bytes
}

/// The server's end. Dropping it closes it.
pub struct End {
    pipe: Rc<RefCell<Pipe>>,
    /// What holds bytes back, if anything does.
    veil: Option<Veil>,
}

/// Bytes that are not the kernel's any more, or not yet.
struct Veil {
    dice: Dice,
    /// Read from the kernel and not given.
    opened: VecDeque<u8>,
    /// More can be read, though no edge will tell.
    has_buffered_input: bool,
    /// Taken and not written to the kernel.
    sealed: Vec<u8>,
    /// Our direction ends when that has left.
    ending: bool,
}

/// What a veil takes at once, in either direction.
const VEIL_BYTES_MAX: usize = 600;

impl Veil {
    fn read(&mut self, pipe: &mut Pipe, buffer: &mut [u8]) -> io::Result<usize> {
        self.has_buffered_input = true;
        while self.opened.len() < buffer.len() {
            if self.dice.percent(10) {
                break; // Enough for now.
            }
            let mut read = [0; VEIL_BYTES_MAX];
            match pipe.read(&mut read) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.has_buffered_input = false;
                    break;
                }
                Ok(count) if count > 0 => self.opened.extend(&read[..count]),
                // What was said before the end is given first.
                _ if !self.opened.is_empty() => break,
                end => return end,
            }
        }
        if self.opened.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut count = buffer.len().min(self.opened.len());
        if self.dice.percent(10) {
            count = 1 + self.dice.below(count);
        }
        buffer[..count].copy_from_slice(&front(&mut self.opened, count));
        self.has_buffered_input |= !self.opened.is_empty();
        Ok(count)
    }

    fn write(&mut self, pipe: &mut Pipe, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush(pipe)?;
        for slice in slices {
            let room = VEIL_BYTES_MAX - self.sealed.len();
            self.sealed.extend_from_slice(&slice[..room.min(slice.len())]);
        }
        let count = self.sealed.len();
        match self.flush(pipe) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(count),
            flushed => flushed.map(|()| count),
        }
    }

    fn flush(&mut self, pipe: &mut Pipe) -> io::Result<()> {
        while !self.sealed.is_empty() {
            match pipe.write(&[IoSlice::new(&self.sealed)]) {
                Ok(count) => drop(self.sealed.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        pipe.write_over |= self.ending;
        Ok(())
    }
}

/// The peer's end.
pub struct Peer(Rc<RefCell<Pipe>>);

impl Peer {
    pub fn pipe(&self) -> RefMut<'_, Pipe> {
        self.0.borrow_mut()
    }
}

pub fn pair(seed: u64, weather: Weather) -> (Peer, End) {
    let mut dice = Dice::new(seed);
    let mut others = Dice::new(!seed);
    let is_veiled = weather.faults > 0 && others.percent(30);
    let pipe = Rc::new(RefCell::new(Pipe {
        weather,
        talkative: dice.percent(25),
        dice,
        arrived: VecDeque::new(),
        fin: false,
        reset: None,
        gone: false,
        readable: false,
        sent: VecDeque::new(),
        blocked: false,
        write_over: false,
        dropped: false,
    }));
    let veil = is_veiled.then(|| Veil {
        dice: others,
        opened: VecDeque::new(),
        has_buffered_input: false,
        sealed: Vec::new(),
        ending: false,
    });
    (Peer(pipe.clone()), End { pipe, veil })
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let pipe = &mut *self.pipe.borrow_mut();
        match &mut self.veil {
            Some(veil) => veil.read(pipe, buffer),
            None => pipe.read(buffer),
        }
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let pipe = &mut *self.pipe.borrow_mut();
        match &mut self.veil {
            Some(veil) => veil.write(pipe, slices),
            None => pipe.write(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.veil {
            Some(veil) => veil.flush(&mut self.pipe.borrow_mut()),
            None => Ok(()),
        }
    }
}

impl Stream for End {
    fn shutdown_write(&mut self) -> io::Result<()> {
        let pipe = &mut *self.pipe.borrow_mut();
        match &mut self.veil {
            Some(veil) if !veil.sealed.is_empty() => veil.ending = true,
            _ => pipe.write_over = true,
        }
        if pipe.reset.is_some() { Err(ErrorKind::NotConnected.into()) } else { Ok(()) }
    }

    fn has_buffered_input(&self) -> bool {
        self.veil.as_ref().is_some_and(|veil| veil.has_buffered_input)
    }

    fn has_buffered_output(&self) -> bool {
        self.veil.as_ref().is_some_and(|veil| !veil.sealed.is_empty())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut pipe = self.pipe.borrow_mut();
        pipe.dropped = true;
        if !pipe.arrived.is_empty() && pipe.dice.percent(50) {
            // RFC 1122 §4.2.2.13: closed with unread input means a reset, which may destroy
            // what the peer has not read yet.
            pipe.sent.clear();
        }
    }
}
