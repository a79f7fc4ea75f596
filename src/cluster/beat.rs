//! Leases, deadlines, and what is left by nodes that have died.
//!
//! Owns when the node renews its lease and when it asks the store to act on what is due. Must not know
//! what is due. The invariant: a deadline that this node has set is acted on in time by this node, and
//! within a second by another one if this node dies.

use std::time::Duration;

use log::{info, warn};

use super::args::Args;
use super::identity::new_tail;
use super::library::Function;
use super::plan::Awaited;
use super::record::SessionHash;
use super::resp::{Reply, count};
use super::state::{Cluster, Lent, Token};
use crate::clock::Mono;

/// How often a node renews its lease.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// From so much of the store's memory on, in percent, messages are given up.
const SHED_PERCENT: u64 = 80;

/// From so much on, no session and no room may begin. At 100 the store refuses posts itself.
const CREATIONS_PERCENT: u64 = 85;

/// Messages that one call gives up.
const SHED_MAX: u64 = 100;

/// Deadlines that one call acts on: less than a millisecond of work for the store.
const REAPED_MAX: u64 = 16;

impl Cluster {
    /// Something in this partition becomes due after `time`.
    pub(super) fn reap_within(&mut self, now: Mono, partition: u16, time: Duration) {
        // Not before: the store's clock has gone on since the call.
        let at = now.after(time).after(Duration::from_millis(2));
        let Some(due) = self.beats.due.get_mut(usize::from(partition)) else { return };
        *due = Some(due.map_or(at, |due| due.min(at)));
    }

    /// When [`Cluster::sweep`] is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        let timer = self.timers.first().map(|timer| self.plans.of_timer(*timer).0);
        let probe = self.probes.iter().map(|(at, ..)| *at).min();
        let patience = self.patience_ends();
        let (backlog, uplink) = (self.backlog_expires(), self.uplink.next_deadline());
        let own = [self.beats.next_deadline(), timer, probe, patience, backlog, uplink];
        own.into_iter().flatten().min()
    }

    /// Acts on what is due.
    pub fn sweep(&mut self, lent: &mut Lent<'_>) {
        let now = lent.now.mono;
        let mut incoming = Vec::new();
        self.uplink.sweep(now, &mut incoming);
        self.take(lent, incoming);
        while let Some(timer) = self.timers.first().copied() {
            let (at, key) = self.plans.of_timer(timer);
            if at > now {
                break;
            }
            self.timers.remove(&timer);
            if let Some(key) = key {
                self.advance(lent, key, Awaited::Time);
            }
        }
        self.expire_waiting(lent);
        self.lose_patience(lent);
        self.end_probes(lent);
        if self.beats.listing.take_if(|at| *at <= now).is_some() {
            self.on_listing_due(lent);
        }
        if self.beats.next.is_some_and(|at| at <= now) {
            self.beats.next = Some(now.after(BEAT_INTERVAL));
            self.beat(now);
            self.conns.retain(|_, conn| !conn.is_idle(now));
            self.drop_idle_rooms(lent);
        }
        for partition in 0..self.beats.due.len() as u16 {
            let due = &mut self.beats.due[usize::from(partition)];
            if due.take_if(|at| *at <= now).is_some() {
                self.reap(now, partition);
            }
        }
    }

    /// The store can be asked: the first beat follows at once.
    pub(super) fn begin_beats(&mut self, now: Mono, partitions: u16) {
        self.beats.next = Some(now);
        self.beats.due = vec![None; partitions.into()];
        self.beats.counts.resize(partitions.into(), (0, 0));
    }

    fn beat(&mut self, now: Mono) {
        let _ = self.uplink.command(now, &[b"INFO", b"memory"], Token::Memory);
        for partition in 0..self.beats.due.len() as u16 {
            let args = Args::new().time(self.lease);
            let _ = self.call(now, partition, Function::Beat, args, Token::Beat(partition));
        }
    }

    pub(super) fn on_beat(&mut self, now: Mono, partition: u16, reply: &Reply) {
        if let Some(counts) = self.beats.counts.get_mut(usize::from(partition)) {
            *counts = (count(reply, 3), count(reply, 4));
        }
        let (store, due) = (reply.number(1), reply.number(2));
        if due > 0 {
            self.reap_within(now, partition, Duration::from_micros(due.saturating_sub(store)));
        }
    }

    /// How much memory the store has in use. If it has little left, the oldest messages of the idlest rooms
    /// go, and nothing new may begin.
    pub(super) fn on_memory(&mut self, now: Mono, info: &[u8]) {
        let percent = memory_percent(info).unwrap_or_default();
        let is_full = percent >= CREATIONS_PERCENT;
        if is_full != std::mem::replace(&mut self.beats.is_store_full, is_full) {
            match is_full {
                true => warn!("the store is full: {percent} % in use, nothing new may begin"),
                false => info!("the store is full no longer: {percent} % in use"),
            }
        }
        if percent < SHED_PERCENT {
            return;
        }
        for partition in 0..self.partitions {
            let args = Args::new().number(SHED_MAX);
            let _ = self.call(now, partition, Function::Shed, args, Token::Nothing);
        }
    }

    fn reap(&mut self, now: Mono, partition: u16) {
        let config = &self.config;
        let args = Args::new()
            .time(self.lease)
            .time(config.leave_grace)
            .time(config.room_ttl)
            .number(config.history_messages_max as u64)
            .text(new_tail(&mut *self.entropy))
            .number(REAPED_MAX)
            .time(config.session_ttl);
        let _ = self.call(now, partition, Function::Reap, args, Token::Reap(partition));
    }

    pub(super) fn on_reaped(&mut self, lent: &mut Lent<'_>, partition: u16, reply: &Reply) {
        let sessions =
            reply.list(2).iter().filter_map(|one| SessionHash::parse(one.as_bytes()).ok());
        for session in sessions {
            self.end_session(lent, session);
        }
        if !reply.bytes(1).is_empty() {
            self.reap(lent.now.mono, partition);
        }
    }
}

/// The part of its limit that the store has in use. `None`: it has no limit, or does not say.
fn memory_percent(info: &[u8]) -> Option<u64> {
    let info = std::str::from_utf8(info).ok()?;
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().parse::<u64>().ok()
    };
    let (used, max) = (field("used_memory")?, field("maxmemory")?);
    used.saturating_mul(100).checked_div(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_says_how_full_it_is() {
        let info = |used: &str, max: &str| {
            format!("# Memory\r\nused_memory:{used}\r\nused_memory_rss:9\r\nmaxmemory:{max}\r\n")
        };
        for (used, max, expected) in [
            ("80", "100", Some(80)),
            ("84999", "100000", Some(84)),
            ("5", "0", None),
            ("x", "100", None),
            ("18446744073709551615", "1", Some(u64::MAX)),
        ] {
            assert_eq!(memory_percent(info(used, max).as_bytes()), expected, "{used} {max}");
        }
        assert_eq!(memory_percent(b"used_memory:80\r\n"), None);
        assert_eq!(memory_percent(b"\xFF"), None);
    }
}
