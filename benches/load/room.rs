//! A room, as its members hear it: each message once, and all in one order.
//!
//! Owns who is to hear what next. Must never know a socket. The order is the server's to choose, so
//! it is what the first member hears that hears it; all others must hear the same, and of each
//! sender the messages as they were said. One message too many, too few or out of place is an
//! error, which ends the benchmark: how fast a server loses messages is of no interest. A check
//! that cannot fail proves nothing, so it is shown to fail before anything is measured: [`prove`].

use std::collections::VecDeque;

use crate::Result;

pub struct Room {
    /// Messages said so far; each bears its number.
    said: u32,
    /// Which message each sender is to be heard with next. They take turns.
    next_of: Vec<u32>,
    /// Those that some have heard and some have not, in order. Bounded by what is under way.
    order: VecDeque<Message>,
    /// How many messages everybody has heard: the place of the first in `order`.
    settled: usize,
    /// How many messages each member has heard.
    heard: Vec<usize>,
}

struct Message {
    number: u32,
    /// How many members have not heard it.
    left: usize,
}

impl Room {
    pub fn new(members: usize, senders: u32) -> Room {
        let next_of = (0..senders).collect();
        Room { said: 0, next_of, order: VecDeque::new(), settled: 0, heard: vec![0; members] }
    }

    /// Something is said: its number, and the member who says it.
    pub fn say(&mut self) -> (u32, usize) {
        let number = self.said;
        self.said += 1;
        (number, number as usize % self.next_of.len())
    }

    /// A member hears a message. True if all have heard it now.
    pub fn on_heard(&mut self, member: usize, number: u32) -> Result<bool> {
        let heard = self.heard.get_mut(member).ok_or("nobody has that number")?;
        let place = *heard - self.settled;
        *heard += 1;
        if place == self.order.len() {
            self.first_heard(number)?;
        }
        let message = self.order.get_mut(place).ok_or("a place that nobody has left")?;
        if message.number != number {
            let expected = message.number;
            return Err(format!("member {member} hears message {number}, others {expected}").into());
        }
        message.left -= 1;
        let all = message.left == 0;
        while self.order.front().is_some_and(|message| message.left == 0) {
            self.order.pop_front();
            self.settled += 1;
        }
        Ok(all)
    }

    fn first_heard(&mut self, number: u32) -> Result<()> {
        let senders = self.next_of.len();
        let next =
            self.next_of.get_mut(number as usize % senders).ok_or("a room without senders")?;
        if number != *next || number >= self.said {
            return Err(format!("message {number} is heard, {next} was to come").into());
        }
        *next += u32::try_from(senders)?;
        self.order.push_back(Message { number, left: self.heard.len() });
        Ok(())
    }

    /// Whether everybody has heard everything.
    pub fn is_complete(&self) -> bool {
        self.settled == self.said as usize
    }
}

/// What must be noticed is noticed.
pub fn prove() -> Result<()> {
    let said: u32 = 4;
    // The message that each of two members hears, in this order, of two who talk.
    let is_fine = |heard: &[(usize, u32)]| {
        let mut room = Room::new(2, 2);
        for _ in 0..said {
            room.say();
        }
        heard.iter().all(|(member, number)| room.on_heard(*member, *number).is_ok())
            && room.is_complete()
    };
    let in_order = [(0, 1), (0, 0), (1, 1), (0, 2), (1, 0), (1, 2), (1, 3), (0, 3)];
    let doubled = [in_order.as_slice(), &[(0, 3)]].concat();
    let never_said = [in_order.as_slice(), &[(0, 4), (1, 4)]].concat();
    let another_order = [(0, 1), (0, 0), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3)];
    let not_as_said = [(0, 2), (0, 0), (0, 1), (0, 3), (1, 2), (1, 0), (1, 1), (1, 3)];
    let gap = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3)];
    let faults = [
        &doubled,
        &never_said,
        in_order.split_last().ok_or("none")?.1,
        &another_order,
        &not_as_said,
        &gap,
    ];
    match is_fine(&in_order) && !faults.iter().any(|heard| is_fine(heard)) {
        true => Ok(()),
        false => Err("the benchmark would not notice what gets lost".into()),
    }
}
