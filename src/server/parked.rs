//! Requests that wait for their outcome.
//!
//! Owns how a connection waits for what another process decides, and how it is answered. Must not know
//! what is decided. The invariant: nothing is read from a connection that waits, so that its answers
//! keep the order of its requests.
//!
//! In a cluster the store decides. In tests of a single server a [`Delay`] stands for it.
//!
//! [`Delay`]: super::delay::Delay

use std::net::IpAddr;

use super::connection::{ConnectionKey, Protocol, Purpose, TimeoutKind};
use super::core::Core;
#[cfg(debug_assertions)]
use super::schedule::Work;
#[cfg(debug_assertions)]
use crate::api::Asked;
use crate::api::{Answer, Caller};
use crate::http::{Fed, Request};
use crate::net::Stream;

impl<S: Stream> Core<S> {
    /// Keeps a request until its outcome comes.
    pub(super) fn park(&mut self, key: ConnectionKey, request: Request) {
        let Some(connection) = self.table.slots.get_mut(key) else { return };
        let Protocol::Http(http) = &mut connection.protocol else { return };
        http.codec.put_back(request);
        http.is_parked = true;
        self.table.set_timer(key, Some(TimeoutKind::Idle));
    }

    /// Takes back a request that was kept, with its listener's purpose and its peer. `None`: the peer
    /// has gone meanwhile.
    pub(super) fn take_parked(
        &mut self,
        key: ConnectionKey,
    ) -> Option<(Request, Purpose, Option<IpAddr>)> {
        let Protocol::Http(http) = &mut self.table.slots.get_mut(key)?.protocol else {
            return None;
        };
        if !std::mem::take(&mut http.is_parked) {
            return None;
        }
        match http.codec.feed(&mut &[][..]) {
            Ok(Fed::Request(request)) => Some((request, http.purpose, http.peer)),
            _ => None,
        }
    }

    /// Takes back a request that was kept and sends the answer to it.
    pub(super) fn unpark(
        &mut self,
        key: ConnectionKey,
        answer: impl FnOnce(&mut Core<S>, &Request, &Caller) -> Answer,
    ) {
        let Some((request, _, peer)) = self.take_parked(key) else { return };
        let client = self.api.client(&request, peer);
        let caller = self.caller(client);
        let answer = answer(self, &request, &caller);
        self.on_answer(key, request, answer, client);
        self.table.schedule(key); // What it has sent meanwhile.
    }
}

#[cfg(debug_assertions)]
impl<S: Stream> Core<S> {
    /// For tests: from now on requests are decided `ticks` later.
    pub fn delay_outcomes(&mut self, ticks: u64) {
        self.delay.ticks = ticks;
    }

    pub(super) fn is_delaying(&self) -> bool {
        self.delay.ticks > 0
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.delay.is_empty()
    }

    /// Decides the requests that are due.
    pub(super) fn decide_parked(&mut self) {
        self.delay.on_tick();
        while let Some(key) = self.delay.pop_due() {
            // Charged and counted like a turn of the connection.
            self.table.work = Work::default();
            self.unpark(key, |core, request, caller| match core.api.ask(request, caller) {
                Asked::Answer(answer) => answer,
                Asked::Command(command) => {
                    let outcome = core.chat.run(caller.now, command, &mut core.table);
                    core.api.tell(request, caller, outcome)
                }
            });
            if self.table.end_turn(key) {
                self.on_silent(key);
            }
        }
    }
}
