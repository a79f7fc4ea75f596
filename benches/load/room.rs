//! Checks the deliveries in one room: each member receives each message once, in the same order.
//!
//! Owns the expected order. Must not know sockets. The server chooses the order of messages from
//! different senders, so the first delivery of a message defines its place, and all other members
//! must receive it at the same place. The invariant: a message that is lost, duplicated or out of
//! order ends the benchmark, because otherwise a server that loses messages would look fast.
//! [`prove`] shows that these checks can fail.

use std::collections::VecDeque;

use crate::Result;

pub struct Room {
    /// The number of messages sent so far, which is also the number in the next message.
    sent: u32,
    /// The next message to be delivered of each sender. Senders take turns.
    next_of: Vec<u32>,
    /// The messages that some members have received and others have not, in order. Bounded by the
    /// number of messages in flight.
    order: VecDeque<Message>,
    /// The number of messages that all members have received: the place of the first in `order`.
    settled: usize,
    /// The number of messages that each member has received.
    delivered: Vec<usize>,
}

struct Message {
    number: u32,
    /// The number of members that have not received it.
    left: usize,
}

impl Room {
    pub fn new(members: usize, senders: u32) -> Room {
        let next_of = (0..senders).collect();
        Room { sent: 0, next_of, order: VecDeque::new(), settled: 0, delivered: vec![0; members] }
    }

    /// Counts a message. Returns its number and the member that sends it.
    pub fn send(&mut self) -> (u32, usize) {
        let number = self.sent;
        self.sent += 1;
        (number, number as usize % self.next_of.len())
    }

    /// A member has received a message. True if all members have received it now.
    pub fn on_delivery(&mut self, member: usize, number: u32) -> Result<bool> {
        let delivered = self.delivered.get_mut(member).ok_or("no member has that number")?;
        let place = *delivered - self.settled;
        *delivered += 1;
        if place == self.order.len() {
            self.first_delivery(number)?;
        }
        let message = self.order.get_mut(place).ok_or("no message has that place")?;
        if message.number != number {
            let expected = message.number;
            return Err(
                format!("member {member} receives message {number}, others {expected}").into()
            );
        }
        message.left -= 1;
        let all = message.left == 0;
        while self.order.front().is_some_and(|message| message.left == 0) {
            self.order.pop_front();
            self.settled += 1;
        }
        Ok(all)
    }

    fn first_delivery(&mut self, number: u32) -> Result<()> {
        let senders = self.next_of.len();
        let next =
            self.next_of.get_mut(number as usize % senders).ok_or("a room without senders")?;
        if number != *next || number >= self.sent {
            return Err(format!("message {number} is received instead of {next}").into());
        }
        *next += u32::try_from(senders)?;
        self.order.push_back(Message { number, left: self.delivered.len() });
        Ok(())
    }

    /// Whether all members have received all messages.
    pub fn is_complete(&self) -> bool {
        self.settled == self.sent as usize
    }
}

/// Fails unless the checks above detect each kind of fault.
pub fn prove() -> Result<()> {
    let sent: u32 = 4;
    // The deliveries, as pairs of a member (of two) and a message. Both members send.
    let is_fine = |delivered: &[(usize, u32)]| {
        let mut room = Room::new(2, 2);
        for _ in 0..sent {
            room.send();
        }
        delivered.iter().all(|(member, number)| room.on_delivery(*member, *number).is_ok())
            && room.is_complete()
    };
    let in_order = [(0, 1), (0, 0), (1, 1), (0, 2), (1, 0), (1, 2), (1, 3), (0, 3)];
    let doubled = [in_order.as_slice(), &[(0, 3)]].concat();
    let never_sent = [in_order.as_slice(), &[(0, 4), (1, 4)]].concat();
    let another_order = [(0, 1), (0, 0), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3)];
    let sender_order = [(0, 2), (0, 0), (0, 1), (0, 3), (1, 2), (1, 0), (1, 1), (1, 3)];
    let gap = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3)];
    let faults = [
        &doubled,
        &never_sent,
        in_order.split_last().ok_or("none")?.1,
        &another_order,
        &sender_order,
        &gap,
    ];
    match is_fine(&in_order) && !faults.iter().any(|delivered| is_fine(delivered)) {
        true => Ok(()),
        false => Err("the benchmark does not detect lost messages".into()),
    }
}
