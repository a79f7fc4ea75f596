//! Chat messages in rooms, at full speed or at a fixed rate.
//!
//! Owns the messages and the times at which they are sent; [`Room`] checks the deliveries. Full
//! speed is a *closed loop*: a few messages of each room are in flight, and when all members have
//! received one, the next is sent. So the server is always busy and no queue grows. A larger window
//! lets a server coalesce more, so only figures with the same window can be compared.
//!
//! At a fixed rate each message has a time at which it is due. Latency counts from that time, even
//! if the generator sends the message late, so that a stall of the server counts for all messages
//! that it delays.

use std::io::Write as _;
use std::mem;
use std::time::{Duration, Instant};

use crate::Result;
use crate::clients::{Clients, PATIENCE};
use crate::machine::{Effort, Meter};
use crate::room::Room;
use crate::server::Server;

/// The number of rooms and members, and the rate of messages.
#[derive(Clone, Copy)]
pub struct Load {
    pub rooms: usize,
    pub members: usize,
    pub pace: Pace,
}

#[derive(Clone, Copy)]
pub enum Pace {
    /// This many messages of each room are in flight.
    Window(usize),
    /// This many messages per second, in all rooms together.
    PerSecond(u32),
}

/// The length of the warm-up, and of the measurement that follows.
#[derive(Clone, Copy)]
pub struct Span {
    pub warm_up: Duration,
    pub measured: Duration,
}

/// The result of a measurement.
pub struct Delivered {
    /// The sum of the recipients of all messages.
    pub deliveries: u64,
    pub effort: Effort,
    /// Reads of the generator that returned data; usually equal to the server's writes.
    pub reads: u64,
    /// The latency of each delivery in nanoseconds, sorted; only at a fixed rate.
    latencies: Vec<u64>,
}

impl Delivered {
    /// Both measurements as one.
    pub fn plus(mut self, other: Delivered) -> Delivered {
        self.latencies.extend(other.latencies);
        self.latencies.sort_unstable();
        Delivered {
            deliveries: self.deliveries + other.deliveries,
            effort: self.effort.plus(other.effort),
            reads: self.reads + other.reads,
            latencies: self.latencies,
        }
    }

    pub fn per_second(&self) -> f64 {
        self.deliveries as f64 / self.effort.took.as_secs_f64()
    }

    pub fn cpu_micros_per_delivery(&self) -> Option<f64> {
        self.effort.server.map(|usage| usage.cpu.as_secs_f64() * 1e6 / self.deliveries as f64)
    }

    /// How much the server writes at once, which has the largest effect on its cost.
    pub fn deliveries_per_read(&self) -> f64 {
        self.deliveries as f64 / self.reads as f64
    }

    /// The quantile `share` of the latencies.
    pub fn latency_micros(&self, share: f64) -> f64 {
        let place = (self.latencies.len() as f64 * share) as usize;
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(place.min(last)).map_or(f64::NAN, |nanos| *nanos as f64 / 1e3)
    }
}

/// Sends messages in rooms of a server and measures the cost.
pub fn measure(server: &Server, load: Load, span: Span) -> Result<Delivered> {
    let (mut clients, mut traffic) = Traffic::connect(server, load)?;
    traffic.run(&mut clients, span, server.process)
}

/// The messages of all rooms.
pub struct Traffic {
    load: Load,
    /// Whether messages have a nonce.
    pub has_nonces: bool,
    /// Whether only deliveries to others than the sender count for the latencies.
    pub others_only: bool,
    senders: u32,
    rooms: Vec<Room>,
    began: Instant,
    /// The number of messages sent before that.
    sent_before: u64,
    sent: u64,
    delivered: u64,
    /// The rooms that may send, once for each message.
    ready: Vec<usize>,
    latencies: Vec<u64>,
    /// The position of the text in the last frame, which is tried first in the next one.
    place: usize,
    frame: Vec<u8>,
}

impl Traffic {
    /// Connects all members. No message has been sent.
    pub fn connect(server: &Server, load: Load) -> Result<(Clients, Traffic)> {
        let paths = server.member_paths(load.rooms, load.members)?;
        let mut clients = Clients::connect(server.address, &paths)?;
        clients.settle(Duration::from_millis(50))?;
        Ok((clients, Traffic::new(load)))
    }

    /// Clients `0..members` are in the first room, and so on.
    pub fn new(load: Load) -> Traffic {
        Traffic::of_senders(load, SENDERS_MAX)
    }

    /// The first `senders` members of each room take turns to send.
    pub fn of_senders(load: Load, senders: usize) -> Traffic {
        let senders = u32::try_from(load.members.min(senders)).unwrap_or(u32::MAX);
        let window = match load.pace {
            Pace::Window(window) => window,
            Pace::PerSecond(_) => 0,
        };
        Traffic {
            load,
            has_nonces: false,
            others_only: false,
            senders,
            rooms: (0..load.rooms).map(|_| Room::new(load.members, senders)).collect(),
            began: Instant::now(),
            sent_before: 0,
            sent: 0,
            delivered: 0,
            ready: (0..load.rooms).flat_map(|room| std::iter::repeat_n(room, window)).collect(),
            latencies: Vec::new(),
            place: 0,
            frame: Vec::new(),
        }
    }

    /// Warms up, measures `process`, and waits until all messages have been delivered. Can be repeated.
    pub fn run(
        &mut self,
        clients: &mut Clients,
        span: Span,
        process: Option<u32>,
    ) -> Result<Delivered> {
        (self.began, self.sent_before) = (Instant::now(), self.sent);
        if let Pace::PerSecond(rate) = self.load.pace {
            // The timer starts after `began`, so a message is due whenever it fires.
            clients.wake_every(Duration::from_secs(1) / rate)?;
        }
        self.talk_until(clients, self.began + span.warm_up)?;
        let (before, reads, meter) = (self.delivered, clients.reads, Meter::start(process)?);
        self.latencies.clear();
        self.talk_until(clients, Instant::now() + span.measured)?;
        let (deliveries, reads, effort) =
            (self.delivered - before, clients.reads - reads, meter.stop()?);
        if effort.generator.cpu > effort.took * 95 / 100 {
            eprintln!("warning: the generator was busy all the time and limits the figures");
        }
        let mut latencies = mem::take(&mut self.latencies);
        self.finish(clients)?;
        latencies.sort_unstable();
        Ok(Delivered { deliveries, effort, reads, latencies })
    }

    fn talk_until(&mut self, clients: &mut Clients, end: Instant) -> Result<()> {
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            while matches!(self.load.pace, Pace::PerSecond(_)) && self.due(self.sent) <= now {
                self.send(clients, self.sent as usize % self.load.rooms)?;
            }
            for room in mem::take(&mut self.ready) {
                self.send(clients, room)?;
            }
            clients.listen(end - now, |connection, text, at| self.on_text(connection, text, at))?;
        }
    }

    /// Sends one message in each room, `rounds` times. The server is stopped meanwhile, so that it
    /// finds all messages of a round together.
    pub fn run_in_rounds(
        &mut self,
        clients: &mut Clients,
        server: &Server,
        rounds: usize,
    ) -> Result<()> {
        for _ in 0..rounds {
            server.pause()?;
            for room in 0..self.load.rooms {
                self.send(clients, room)?;
            }
            server.resume()?;
            self.wait_for_deliveries(clients)?;
        }
        Ok(())
    }

    /// Waits for all deliveries, and a little longer to detect surplus ones.
    pub fn finish(&mut self, clients: &mut Clients) -> Result<()> {
        self.wait_for_deliveries(clients)?;
        let surplus = Duration::from_millis(20);
        clients.listen(surplus, |connection, text, at| self.on_text(connection, text, at))?;
        Ok(())
    }

    /// Whether every member has received every message.
    pub fn is_complete(&self) -> bool {
        self.rooms.iter().all(Room::is_complete)
    }

    /// Waits for that.
    pub fn wait_for_deliveries(&mut self, clients: &mut Clients) -> Result<()> {
        while !self.is_complete() {
            if !clients
                .listen(PATIENCE, |connection, text, at| self.on_text(connection, text, at))?
            {
                let missing = self.sent * self.load.members as u64 - self.delivered;
                return Err(format!("{missing} deliveries are missing").into());
            }
        }
        Ok(())
    }

    /// Sends a message in a room, from the member whose turn it is. Returns the connection of that
    /// member and the number of the message.
    pub fn send(&mut self, clients: &mut Clients, room: usize) -> Result<(usize, u32)> {
        let (number, sender) = self.rooms.get_mut(room).ok_or("no room has that number")?.send();
        self.sent += 1;
        let connection = room * self.load.members + sender;
        self.send_again(clients, connection, number)?;
        Ok((connection, number))
    }

    /// Sends a message that was refused.
    pub fn send_again(
        &mut self,
        clients: &mut Clients,
        connection: usize,
        number: u32,
    ) -> Result<()> {
        let room = connection / self.load.members;
        self.frame.clear();
        // A hundred bytes of text: a mark, the numbers of room and message, and padding.
        write!(self.frame, r#"{{"type":"chat","message":"~{room:06x}{number:08x}{:.<85}""#, "")?;
        if self.has_nonces {
            write!(self.frame, r#","nonce":"{number:032x}""#)?;
        }
        self.frame.push(b'}');
        clients.send(connection, &self.frame)
    }

    /// A connection has received an event. An event without a mark is not one of our messages.
    pub fn on_text(&mut self, connection: usize, event: &[u8], at: Instant) -> Result<()> {
        let Some((room, number)) = marked(event, &mut self.place) else { return Ok(()) };
        if room != connection / self.load.members {
            return Err(format!("a message of room {room} is received in another").into());
        }
        self.delivered += 1;
        let state = self.rooms.get_mut(room).ok_or("no room has that number")?;
        let member = connection % self.load.members;
        let all_have = state.on_delivery(member, number)?;
        match self.load.pace {
            Pace::Window(_) if all_have => self.ready.push(room),
            Pace::Window(_) => {}
            Pace::PerSecond(_)
                if self.others_only && (number % self.senders) as usize == member => {}
            Pace::PerSecond(_) => {
                let due = self.due(u64::from(number) * self.load.rooms as u64 + room as u64);
                let late = at.saturating_duration_since(due).as_nanos();
                self.latencies.push(u64::try_from(late)?);
            }
        }
        Ok(())
    }

    /// The time at which a message is due. Messages are counted over all rooms, which take turns.
    fn due(&self, message: u64) -> Instant {
        let Pace::PerSecond(rate) = self.load.pace else { return self.began };
        let before = message.saturating_sub(self.sent_before);
        self.began + Duration::from_secs_f64(before as f64 / f64::from(rate))
    }
}

/// At most this many members of a room send messages.
const SENDERS_MAX: usize = 10;

/// The numbers of room and message, which follow the mark. Names have no tilde, and no other text
/// begins with one.
pub fn marked(event: &[u8], place: &mut usize) -> Option<(usize, u32)> {
    const MARK: &[u8] = b"\"~";
    if !event.get(*place..).is_some_and(|rest| rest.starts_with(MARK)) {
        *place = event.windows(MARK.len()).position(|some| some == MARK)?;
    }
    let digits: &[u8; 14] = event.get(*place + MARK.len()..)?.first_chunk()?;
    // The low four bits of a hexadecimal digit are its value; of a letter, nine less than that.
    let value =
        |value, digit: &u8| (value << 4) + u32::from(digit & 0xF) + 9 * u32::from(digit >> 6);
    let (room, number) = digits.split_at(6);
    Some((room.iter().fold(0, value) as usize, number.iter().fold(0, value)))
}
