//! The model of a room's present members.
//!
//! The model checks that each room's log is consistent and that the domain has as many present
//! members. Each of them has a connection, or lost the last one less than the grace ago.

use super::*;

#[derive(Default)]
pub struct Presence {
    /// The number of log entries that have been read.
    pub read: usize,
    /// For each user id, the folded name and the number of earlier arrivals.
    pub present: HashMap<UserId, (String, usize)>,
}

impl Model {
    /// Reads new log entries and checks that each log is consistent.
    pub fn read_logs(&mut self) {
        for (room, log) in &self.story.sink.logs {
            let Presence { read, present } = self.presences.entry(*room).or_default();
            for entry in &log[*read..] {
                match entry.line.split_once(' ') {
                    Some(("joined", name)) => {
                        let folded = name.to_lowercase();
                        assert!(
                            present.values().all(|(other, _)| *other != folded),
                            "two present members are named {name}"
                        );
                        let place = self.arrivals;
                        self.arrivals += 1;
                        let present = present.insert(entry.user_id, (folded, place));
                        assert!(present.is_none(), "joined twice");
                        let arrived = |session: &&SessionKey| {
                            self.story.user_id(**session, *room) == Some(entry.user_id)
                        };
                        if let Some(owner @ None) = self.owners.get_mut(room) {
                            *owner = self.sessions.iter().find(arrived).copied();
                            self.seen.insert("inherited");
                        }
                    }
                    Some(("left" | "removed", _)) => {
                        assert!(present.remove(&entry.user_id).is_some(), "left twice")
                    }
                    _ if entry.line.starts_with("changed") => {}
                    Some(("deletion", _)) => {} // Its author need not be a member.
                    _ if present.contains_key(&entry.user_id) => {}
                    Some(("chat", text)) => {
                        assert!(
                            self.outside.contains(&entry.user_id),
                            "a member posted from a socket without being present"
                        );
                        let name = text.split_once(':').unwrap().0.to_lowercase();
                        assert!(
                            present.values().all(|(other, _)| *other != name),
                            "a post from outside has the name of a present member, {name}"
                        );
                    }
                    _ => panic!("a member that is not present is typing"),
                }
            }
            *read = log.len();
        }
    }

    pub fn check_presence(&self) {
        for room in &self.rooms {
            let empty = Presence::default();
            let presence = self.presences.get(room).unwrap_or(&empty);
            assert_eq!(self.story.user_count(*room), presence.present.len());
            let with_tab: HashSet<_> = self
                .readers
                .iter()
                .filter(|reader| reader.room == *room && reader.next.is_some())
                .map(|reader| self.story.user_id(reader.session, *room).expect("a member"))
                .collect();
            assert!(with_tab.iter().all(|user_id| presence.present.contains_key(user_id)));
            for user_id in presence.present.keys().filter(|user_id| !with_tab.contains(user_id)) {
                let broken = self
                    .broken
                    .get(&(*room, *user_id))
                    .expect("a present member never had a connection that broke");
                let end = broken.after(SETTINGS.leave_grace + GRAIN);
                assert!(self.story.now.mono < end.mono, "a member is present after its grace");
            }
        }
    }
}
