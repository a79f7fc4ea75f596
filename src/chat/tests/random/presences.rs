//! The model of a room's present members.
//!
//! It reads each room's log, checks that it is consistent, and compares the domain's count with it:
//! each member that is present in the log has a connection or lost it within the grace.

use super::*;

#[derive(Default)]
pub struct Presence {
    /// Entries of the log that have been read.
    pub read: usize,
    /// By user id: folded name, and how many arrivals there were before.
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
                            "two members named {name}"
                        );
                        let place = self.arrivals;
                        self.arrivals += 1;
                        let present = present.insert(entry.user_id, (folded, place));
                        assert!(present.is_none(), "joined twice");
                    }
                    Some(("left", _)) => {
                        assert!(present.remove(&entry.user_id).is_some(), "left twice")
                    }
                    _ if present.contains_key(&entry.user_id) => {}
                    Some(("chat", text)) => {
                        assert!(
                            self.outside.contains(&entry.user_id),
                            "posted without a connection"
                        );
                        let name = text.split_once(':').unwrap().0.to_lowercase();
                        assert!(
                            present.values().all(|(other, _)| *other != name),
                            "posted as {name}"
                        );
                    }
                    _ => panic!("typing without a connection"),
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
                let broken =
                    self.broken.get(&(*room, *user_id)).expect("present without a connection");
                let end = broken.after(SETTINGS.leave_grace + GRAIN);
                assert!(self.story.now.mono < end.mono, "present for too long");
            }
        }
    }
}
