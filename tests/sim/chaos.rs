//! Chaos: everybody's line breaks again and again, and nothing is lost or said twice.
//!
//! Twenty readers and five writers in one room. A line breaks by a reset, by its end, or by
//! silence until the server gives it up; what was on its way is lost, or comes late. Who comes
//! back goes on after the last message that they saw, and writers say again what they are not
//! sure of, by its nonce.

use std::time::Duration;

use disposable_chat::config::{Config, Rate};

use crate::model::Room;
use crate::pipe::{CALM, Dice, Seen, Weather};
use crate::world::{Owed, Start, World};

const READERS: usize = 20;
const WRITERS: usize = 5;
const MESSAGES: usize = 2000;
const BREAKS: usize = 30;

/// Far more than any run takes.
const ROUNDS_MAX: usize = 5000;

/// Lines of one person that are silent at one time; a session may have 20 sockets.
const SILENT_MAX: usize = 6;

/// A reader that reads so much in a step answers a ping in time, whatever is queued before it,
/// and hears why it was closed.
const BRISK_BYTES: usize = 6000;

/// What a run was like: chaos that is none finds nothing.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Facts {
    pub hash: u64,
    pub breaks: usize,
    /// Resumes that were told of a loss.
    pub incomplete: usize,
    /// Lines closed for being too slow.
    pub too_slow: usize,
    /// Lines that were sent more than one page.
    pub paged: usize,
    /// Messages said again over another line.
    pub resent: usize,
    /// Messages said twice, their nonces forgotten.
    pub twice: usize,
}

/// Somebody whose lines break.
struct Person {
    person: usize,
    line: usize,
    /// Bytes that they read in a step.
    pace: usize,
    /// How far they have come when the line is to break next, last first.
    moments: Vec<usize>,
    /// All that they have seen over lines before this one.
    seen: Vec<String>,
    lines: Vec<usize>,
    silent: Vec<usize>,
    /// Messages that they have said, and how many they have to say.
    said: usize,
    to_say: usize,
    /// Said over lines that are gone, and not heard of since.
    unsure: Vec<(String, String)>,
    window: usize,
}

struct Chaos {
    world: World,
    /// The host's line, which is never broken.
    host: usize,
    facts: Facts,
}

/// Runs a seed to its end with a history of so many messages.
pub fn run(seed: u64, kept_max: usize) -> Facts {
    let mut dice = Dice::new(seed ^ 0xC4A0);
    let config = Config {
        message_rate: Rate { per_second: 0, burst: 1 },
        history_messages_max: kept_max,
        outbox_bytes_max: *dice.pick(&[64 * 1024, Config::default().outbox_bytes_max]),
        ping_interval: Duration::from_secs(5),
        ping_timeout: Duration::from_secs(30), // A ping waits behind all that is queued.
        linger_timeout: Duration::from_secs(60), // However slow, it hears why it was closed.
        leave_grace: *dice.pick(&[Duration::ZERO, Duration::from_secs(3)]),
        ..Config::default()
    };
    let faults = *dice.pick(&[0, 5, 30]);
    let mut world = World::new(seed, &config, CALM);
    world.turns_per_check = 50;
    let host = world.person("host");
    let room = world.room(host, true);
    let host = world.clients.len() - 1;
    let people = world.crowd(READERS + WRITERS);
    let mut chaos = Chaos { world, host, facts: Facts::default() };
    let mut people: Vec<Person> = people
        .enumerate()
        .map(|(number, person)| {
            let start = dice.pick(&[Start::Live, Start::Last(0), Start::Last(1000)]).clone();
            let line = chaos.world.enter_at(person, room, start);
            let mut moments: Vec<_> = (0..BREAKS).map(|_| dice.below(MESSAGES)).collect();
            moments.sort_unstable_by(|one, other| other.cmp(one));
            let to_say = if number < WRITERS { MESSAGES / WRITERS } else { 0 };
            let (lines, window) = (vec![line], 1 + dice.below(20));
            let (seen, silent, unsure) = (Vec::new(), Vec::new(), Vec::new());
            let (pace, said) = (BRISK_BYTES, 0);
            #[rustfmt::skip]
            let person = Person {
                person, line, pace, moments, seen, lines, silent, said, to_say, unsure, window,
            };
            person
        })
        .collect();
    chaos.world.settle();
    for round in 0.. {
        assert!(round < ROUNDS_MAX, "it comes to no end");
        for _ in 0..20 {
            chaos.step(&mut people, faults);
        }
        if people.iter().all(|person| chaos.is_done(person)) {
            for person in &people {
                chaos.world.clients[person.line].honest = true; // Now there is all the time.
            }
            chaos.world.settle();
            if people.iter().all(|person| chaos.world.clients[person.line].is_well()) {
                break;
            }
        }
    }
    chaos.judge(people, kept_max)
}

/// Turns of the loop before the peers act again.
const TURNS_MAX: usize = 16;

impl Chaos {
    fn step(&mut self, people: &mut [Person], faults: usize) {
        // Where messages are lost, nobody sees as many as were to pass before a line breaks.
        let all_said = people.iter().all(|person| person.said == person.to_say);
        for person in people.iter_mut() {
            let seen = person.seen.len() + self.seen(person).len();
            let broken = self.world.clients[person.line].line != Seen::Open
                || self.world.clients[person.line].ws().is_some_and(|ws| ws.closed.is_some());
            let late = all_said && self.world.dice.percent(10);
            let due = person.moments.last().is_some_and(|moment| *moment <= seen || late);
            if broken || due {
                if !broken {
                    person.moments.pop();
                    self.facts.breaks += 1;
                    self.break_line(person);
                }
                self.come_back(person, faults);
            }
            self.talk(person);
        }
        for person in people.iter() {
            for line in person.silent.iter().chain([&person.line]) {
                if self.world.dice.percent(70) {
                    let count = 1 + self.world.dice.below(20_000);
                    self.world.deliver(*line, count);
                }
            }
        }
        let time = self.world.dice.below(100) as u64;
        self.world.advance(Duration::from_millis(time));
        // While there is work the loop does not wait, so no time passes.
        for _ in 0..TURNS_MAX {
            self.world.turn(false);
            if !self.world.core.has_work() {
                break;
            }
        }
        self.world.listen(self.host, usize::MAX);
        self.world.deliver(self.host, usize::MAX);
        for person in people {
            if self.world.dice.percent(70) {
                let count = 1 + self.world.dice.below(2 * person.pace);
                self.world.listen(person.line, count);
            }
        }
    }

    fn seen(&self, person: &Person) -> &[String] {
        &self.world.clients[person.line].ws().expect("a socket").seen
    }

    fn break_line(&mut self, person: &mut Person) {
        let line = person.line;
        match self.world.dice.below(4) {
            0 => self.world.reset(line),
            1 => self.world.finish(line, true),
            2 => self.world.finish(line, false),
            _ => self.world.stall(line),
        }
        self.world.clients[line].reading = false;
        person.silent.push(line);
        if person.silent.len() > SILENT_MAX {
            let oldest = person.silent.remove(0);
            self.world.reset(oldest);
        }
    }

    fn come_back(&mut self, person: &mut Person, faults: usize) {
        let seen = self.seen(person).to_vec();
        person.seen.extend(seen);
        let old = self.world.clients[person.line].ws_mut().expect("a socket");
        if matches!(old.closed, Some((1013, _))) {
            self.facts.too_slow += 1;
        }
        for owed in old.owed.drain(..) {
            let Owed::Once { text, nonce } = owed else { panic!("nothing else was said") };
            person.unsure.push((text, nonce));
        }
        let dice = &mut self.world.dice;
        let buffer_bytes = *dice.pick(&[700, 8000, 64 * 1024]);
        person.pace = *dice.pick(&[500, 3000, BRISK_BYTES, 40_000]);
        person.window = 1 + dice.below(20);
        self.world.weather = Weather { faults, buffer_bytes };
        let after = person.seen.last().map_or("nothing", String::as_str).to_owned();
        person.line = self.world.enter_at(person.person, 0, Start::After(after));
        person.lines.push(person.line);
        let client = &mut self.world.clients[person.line];
        client.honest = person.pace.min(buffer_bytes) >= BRISK_BYTES; // Others may be given up.
        client.ws_mut().expect("a socket").possible.insert(1013);
        for (text, nonce) in person.unsure.drain(..) {
            self.facts.resent += 1;
            self.world.say(person.line, text, nonce);
        }
    }

    fn talk(&mut self, person: &mut Person) {
        for _ in 0..self.world.dice.below(3) {
            let owed = self.world.clients[person.line].ws().expect("a socket").owed.len();
            if person.said == person.to_say || owed >= person.window {
                return;
            }
            let dice = &mut self.world.dice;
            let (piece, count) = match dice.below(100) {
                0..80 => ("a", dice.below(100)),
                80..95 => ("\"é", dice.below(400)),
                _ => ("🦀", dice.below(3980)),
            };
            let text = format!("w{}m{} {}", person.person, person.said, piece.repeat(count));
            let nonce = person.said.to_string();
            person.said += 1;
            self.world.say(person.line, text.trim().to_owned(), nonce);
        }
    }

    fn is_done(&self, person: &Person) -> bool {
        let client = &self.world.clients[person.line];
        let ws = client.ws().expect("a socket");
        let is_over = ws.closed.is_some() || client.line != Seen::Open;
        person.moments.is_empty()
            && person.said == person.to_say
            && person.unsure.is_empty()
            && ws.owed.is_empty()
            && !is_over
    }

    fn judge(mut self, people: Vec<Person>, kept_max: usize) -> Facts {
        let room = &self.world.rooms[0];
        self.facts.twice = room.check_nonces();
        for person in &people {
            judge_lines(&self.world, room, person);
            let prefix = format!("w{}m", person.person);
            let own = room.log.values().filter_map(|message| message.text.strip_prefix(&prefix));
            let own = own.map(|text| text.split(' ').next().and_then(|number| number.parse().ok()));
            let mut own: Vec<usize> = own.map(|number| number.expect("a number")).collect();
            if self.facts.twice > 0 {
                own.sort_unstable();
                own.dedup();
            }
            assert_eq!(own, (0..person.to_say).collect::<Vec<_>>(), "what {prefix} says");
            let sockets = person.lines.iter().filter_map(|line| self.world.clients[*line].ws());
            for ws in sockets {
                self.facts.incomplete += usize::from(ws.pages.complete == Some(false));
                self.facts.paged += usize::from(ws.pages.count > 1);
            }
            if kept_max > 2 * MESSAGES {
                let seen = [&person.seen, self.seen(person)].concat();
                let all: Vec<_> = room.log.range(seen[0].clone()..).map(|(id, _)| id).collect();
                assert!(seen.iter().eq(all), "{prefix} has not seen everything once");
                let chats = |id: &&String| room.log[*id].kind == "chat";
                assert_eq!(seen.iter().filter(chats).count(), MESSAGES);
            }
        }
        self.world.end();
        self.facts.hash = self.world.hash;
        self.facts
    }
}

/// Between one line and the next nothing is lost, unless it was not kept any more.
fn judge_lines(world: &World, room: &Room, person: &Person) {
    for line in &person.lines[1..] {
        let ws = world.clients[*line].ws().expect("a socket");
        let (Some(floor), Some(first)) = (ws.start.floor(), ws.seen.first()) else { continue };
        let is_next = room.after(floor).next() == Some(first);
        match ws.pages.complete {
            Some(complete) => assert!(is_next || !complete),
            // Broken before it was told: so much at least came after what it had seen.
            None if !is_next => {
                let kept = room.log.range(first.clone()..).count();
                assert!(kept >= room.kept_max, "line {line} has a gap");
            }
            None => {}
        }
    }
}
