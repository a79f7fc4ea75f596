//! Who must be present: the model of a room.
//!
//! It reads each room's log, which must make sense by itself, and holds the domain's count against
//! it: present is who the log says, and has a connection or lost it a moment ago.

use super::*;

#[derive(Default)]
pub struct Presence {
    /// How much of the log has been read.
    pub read: usize,
    /// By user id: folded name, and how many came before.
    pub here: HashMap<UserId, (String, usize)>,
}

impl Model {
    /// Each log makes sense by itself.
    pub fn read_logs(&mut self) {
        for (room, log) in &self.story.sink.logs {
            let Presence { read, here } = self.presences.entry(*room).or_default();
            for said in &log[*read..] {
                match said.line.split_once(' ') {
                    Some(("joined", name)) => {
                        let folded = name.to_lowercase();
                        assert!(here.values().all(|(other, _)| *other != folded), "two {name}");
                        let place = self.arrivals;
                        self.arrivals += 1;
                        let here = here.insert(said.user_id, (folded, place));
                        assert!(here.is_none(), "joined twice");
                    }
                    Some(("left", _)) => {
                        assert!(here.remove(&said.user_id).is_some(), "left twice")
                    }
                    _ if here.contains_key(&said.user_id) => {}
                    Some(("chat", text)) => {
                        assert!(self.outside.contains(&said.user_id), "spoke from outside");
                        let name = text.split_once(':').unwrap().0.to_lowercase();
                        assert!(here.values().all(|(other, _)| *other != name), "as {name}");
                    }
                    _ => panic!("typed from outside"),
                }
            }
            *read = log.len();
        }
    }

    pub fn check_presence(&self) {
        for room in &self.rooms {
            let nobody = Presence::default();
            let presence = self.presences.get(room).unwrap_or(&nobody);
            assert_eq!(self.story.user_count(*room), presence.here.len());
            let with_tab: HashSet<_> = self
                .live
                .iter()
                .filter(|live| live.room == *room && live.next.is_some())
                .map(|live| self.story.user_id(live.session, *room).expect("a member"))
                .collect();
            assert!(with_tab.iter().all(|user_id| presence.here.contains_key(user_id)));
            for user_id in presence.here.keys().filter(|user_id| !with_tab.contains(user_id)) {
                let broken = self.broken.get(&(*room, *user_id)).expect("present without reason");
                let over = broken.after(SETTINGS.leave_grace + GRAIN);
                assert!(self.story.now.mono < over.mono, "present for too long");
            }
        }
    }
}
