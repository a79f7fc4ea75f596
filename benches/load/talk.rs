//! Rooms in which people talk: as fast as it goes, or so many messages a second.
//!
//! Owns what is said and when; [`Room`] checks who hears it. As fast as it goes is a *closed loop*:
//! a few messages of each room are under way, and when all have heard one, the next is said. So the
//! server is always busy and no queue grows. A server gains from a larger window as it would from a
//! real flood, so only figures for one window can be compared.
//!
//! At a fixed rate each message has a time at which it is due, and it is late from then on, whether
//! it could be said or not: a server that stalls is charged for all who had to wait meanwhile.

use std::io::Write as _;
use std::mem;
use std::time::{Duration, Instant};

use crate::Result;
use crate::crowd::{Crowd, PATIENCE};
use crate::machine::{Effort, Meter};
use crate::room::Room;
use crate::server::Server;

/// Who talks to whom, and how fast.
#[derive(Clone, Copy)]
pub struct Load {
    pub rooms: usize,
    pub members: usize,
    pub pace: Pace,
}

#[derive(Clone, Copy)]
pub enum Pace {
    /// So many messages of each room are under way.
    Window(usize),
    /// So many messages a second, in all rooms together.
    PerSecond(u32),
}

/// How long to talk before anything counts, and how long it counts.
#[derive(Clone, Copy)]
pub struct Span {
    pub warm_up: Duration,
    pub measured: Duration,
}

/// What came of it.
pub struct Heard {
    /// Messages times those who heard them.
    pub deliveries: u64,
    pub effort: Effort,
    /// Reads of the generator that brought anything: the server's writes, as a rule.
    pub reads: u64,
    /// Nanoseconds from when each message was due, at a fixed rate; sorted.
    latencies: Vec<u64>,
}

impl Heard {
    pub fn per_second(&self) -> f64 {
        self.deliveries as f64 / self.effort.took.as_secs_f64()
    }

    pub fn cpu_micros_per_delivery(&self) -> Option<f64> {
        self.effort.server.map(|usage| usage.cpu.as_secs_f64() * 1e6 / self.deliveries as f64)
    }

    /// How much the server writes at once: nothing else makes it cheaper by as much.
    pub fn deliveries_per_read(&self) -> f64 {
        self.deliveries as f64 / self.reads as f64
    }

    /// How long at most the quickest `share` of deliveries took.
    pub fn latency_micros(&self, share: f64) -> f64 {
        let place = (self.latencies.len() as f64 * share) as usize;
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(place.min(last)).map_or(f64::NAN, |nanos| *nanos as f64 / 1e3)
    }
}

/// Talks in rooms of a server and says what it cost.
pub fn measure(server: &Server, load: Load, span: Span) -> Result<Heard> {
    let (mut crowd, mut talk) = Talk::gather(server, load)?;
    talk.go_on(&mut crowd, span, server)
}

/// The talk in all rooms.
pub struct Talk {
    load: Load,
    rooms: Vec<Room>,
    began: Instant,
    said: u64,
    heard: u64,
    /// Rooms in which something can be said, once for each message.
    ready: Vec<usize>,
    latencies: Vec<u64>,
    /// Where the text lay in the last frame: mostly it lies there again.
    place: usize,
    frame: Vec<u8>,
}

impl Talk {
    /// Everybody is there, and nobody has said anything.
    pub fn gather(server: &Server, load: Load) -> Result<(Crowd, Talk)> {
        let paths = server.seats(load.rooms, load.members)?;
        let mut crowd = Crowd::connect(server.address, &paths)?;
        crowd.settle(Duration::from_millis(50))?;
        Ok((crowd, Talk::new(load)))
    }

    /// The same, but each member joins when the one before it has been answered, so that the server
    /// does the same work each time.
    pub fn gather_one_by_one(server: &Server, load: Load) -> Result<(Crowd, Talk)> {
        let mut crowd = Crowd::new()?;
        for path in server.seats(load.rooms, load.members)? {
            crowd.open(server.address, &path)?;
            crowd.wait_for_upgrades(0)?;
        }
        crowd.settle(Duration::from_millis(50))?;
        Ok((crowd, Talk::new(load)))
    }

    /// Members `0..members` of the crowd are in the first room, and so on.
    pub fn new(load: Load) -> Talk {
        let senders = u32::try_from(load.members.min(SENDERS_MAX)).unwrap_or(u32::MAX);
        let window = match load.pace {
            Pace::Window(window) => window,
            Pace::PerSecond(_) => 0,
        };
        Talk {
            load,
            rooms: (0..load.rooms).map(|_| Room::new(load.members, senders)).collect(),
            began: Instant::now(),
            said: 0,
            heard: 0,
            ready: (0..load.rooms).flat_map(|room| std::iter::repeat_n(room, window)).collect(),
            latencies: Vec::new(),
            place: 0,
            frame: Vec::new(),
        }
    }

    /// Talks until it is over, and everybody has heard everything.
    pub fn go_on(&mut self, crowd: &mut Crowd, span: Span, server: &Server) -> Result<Heard> {
        self.began = Instant::now();
        if let Pace::PerSecond(rate) = self.load.pace {
            // Begun after `began`, so that whenever it wakes us something is due.
            crowd.wake_every(Duration::from_secs(1) / rate)?;
        }
        self.talk_until(crowd, self.began + span.warm_up)?;
        let (heard, reads, meter) = (self.heard, crowd.reads, Meter::start(server.process)?);
        self.latencies.clear();
        self.talk_until(crowd, Instant::now() + span.measured)?;
        let (deliveries, reads, effort) = (self.heard - heard, crowd.reads - reads, meter.stop()?);
        if effort.generator.cpu > effort.took * 95 / 100 {
            eprintln!("the generator was busy all the time: a faster server would look no faster");
        }
        let mut latencies = mem::take(&mut self.latencies);
        self.finish(crowd)?;
        latencies.sort_unstable();
        Ok(Heard { deliveries, effort, reads, latencies })
    }

    fn talk_until(&mut self, crowd: &mut Crowd, end: Instant) -> Result<()> {
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            while matches!(self.load.pace, Pace::PerSecond(_)) && self.due(self.said) <= now {
                self.say(crowd, self.said as usize % self.load.rooms)?;
            }
            for room in mem::take(&mut self.ready) {
                self.say(crowd, room)?;
            }
            crowd.listen(end - now, |connection, text, at| self.on_text(connection, text, at))?;
        }
    }

    /// Listens until everybody has heard everything, and a little longer: nothing more may come.
    pub fn finish(&mut self, crowd: &mut Crowd) -> Result<()> {
        self.hear_all(crowd)?;
        let surplus = Duration::from_millis(20);
        crowd.listen(surplus, |connection, text, at| self.on_text(connection, text, at))?;
        Ok(())
    }

    /// Listens until every member has received every message.
    pub fn hear_all(&mut self, crowd: &mut Crowd) -> Result<()> {
        while !self.rooms.iter().all(Room::is_complete) {
            if !crowd.listen(PATIENCE, |connection, text, at| self.on_text(connection, text, at))? {
                let missing = self.said * self.load.members as u64 - self.heard;
                return Err(format!("{missing} deliveries are missing").into());
            }
        }
        Ok(())
    }

    /// Whoever's turn it is says something in a room.
    pub fn say(&mut self, crowd: &mut Crowd, room: usize) -> Result<()> {
        let (number, sender) = self.rooms.get_mut(room).ok_or("no room has that number")?.say();
        self.said += 1;
        self.frame.clear();
        // A hundred bytes of text: the mark, who says what, and a filling.
        write!(self.frame, r#"{{"type":"chat","message":"~{room:06x}{number:08x}{:.<85}"}}"#, "")?;
        crowd.say(room * self.load.members + sender, &self.frame)
    }

    /// Somebody is sent an event. What has no mark is nothing that we have said.
    pub fn on_text(&mut self, connection: usize, event: &[u8], at: Instant) -> Result<()> {
        let Some((room, number)) = marked(event, &mut self.place) else { return Ok(()) };
        if room != connection / self.load.members {
            return Err(format!("a message of room {room} is heard in another").into());
        }
        self.heard += 1;
        let talk = self.rooms.get_mut(room).ok_or("no room has that number")?;
        let all_have = talk.on_heard(connection % self.load.members, number)?;
        match self.load.pace {
            Pace::Window(_) if all_have => self.ready.push(room),
            Pace::Window(_) => {}
            Pace::PerSecond(_) => {
                let due = self.due(u64::from(number) * self.load.rooms as u64 + room as u64);
                let late = at.saturating_duration_since(due).as_nanos();
                self.latencies.push(u64::try_from(late)?);
            }
        }
        Ok(())
    }

    /// When a message is due: counted over all rooms, which take turns.
    fn due(&self, message: u64) -> Instant {
        let Pace::PerSecond(rate) = self.load.pace else { return self.began };
        self.began + Duration::from_secs_f64(message as f64 / f64::from(rate))
    }
}

/// How many members of a room talk; the others listen.
const SENDERS_MAX: usize = 10;

/// Room and number, from behind the mark. No name has a tilde, and no other text begins with one.
fn marked(event: &[u8], place: &mut usize) -> Option<(usize, u32)> {
    const MARK: &[u8] = b"\"~";
    if !event.get(*place..).is_some_and(|rest| rest.starts_with(MARK)) {
        *place = event.windows(MARK.len()).position(|some| some == MARK)?;
    }
    let digits: &[u8; 14] = event.get(*place + MARK.len()..)?.first_chunk()?;
    // Of a hexadecimal digit the low four bits are its value, or nine less than that.
    let value =
        |value, digit: &u8| (value << 4) + u32::from(digit & 0xF) + 9 * u32::from(digit >> 6);
    let (room, number) = digits.split_at(6);
    Some((room.iter().fold(0, value) as usize, number.iter().fold(0, value)))
}
