//! Requests that wait for their outcome.
//!
//! Owns how a connection waits for what another process decides. Must not know what is decided; in
//! tests a [`Delay`] stands for that process. The invariant: nothing is read from a connection that
//! waits, so that its answers keep the order of its requests.
//!
//! [`Delay`]: super::delay::Delay

use super::connection::{ConnectionKey, Protocol, TimeoutKind};
use super::core::Core;
use super::schedule::Work;
use crate::api::Asked;
use crate::http::{Fed, Request};
use crate::net::Stream;

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

    /// Keeps a request until its outcome comes.
    pub(super) fn park(&mut self, key: ConnectionKey, request: Request) {
        let Some(connection) = self.table.slots.get_mut(key) else { return };
        let Protocol::Http(http) = &mut connection.protocol else { return };
        http.codec.put_back(request);
        http.is_parked = true;
        self.table.set_timer(key, Some(TimeoutKind::Idle));
        self.delay.push(key);
    }

    /// Decides the requests that are due.
    pub(super) fn decide_parked(&mut self) {
        self.delay.on_tick();
        while let Some(key) = self.delay.pop_due() {
            // Charged and counted like a turn of the connection.
            self.table.work = Work::default();
            self.decide(key);
            if self.table.end_turn(key) {
                self.on_silent(key);
            }
        }
    }

    fn decide(&mut self, key: ConnectionKey) {
        // The peer may have gone meanwhile.
        let Some(connection) = self.table.slots.get_mut(key) else { return };
        let Protocol::Http(http) = &mut connection.protocol else { return };
        if !std::mem::take(&mut http.is_parked) {
            return;
        }
        let Ok(Fed::Request(request)) = http.codec.feed(&mut &[][..]) else { return };
        let peer = http.peer;
        let client = self.api.client(&request, peer);
        let caller = self.caller(client);
        let answer = match self.api.ask(&request, &caller) {
            Asked::Answer(answer) => answer,
            Asked::Command(command) => {
                let outcome = self.chat.run(caller.now, command, &mut self.table);
                self.api.tell(&request, &caller, outcome)
            }
        };
        self.on_answer(key, request, answer, client);
        self.table.schedule(key); // What it has sent meanwhile.
    }
}
