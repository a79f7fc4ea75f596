//! Moderation: deleting the texts of messages.

use super::*;

#[test]
fn the_author_deletes_a_text_and_everyone_is_told_once() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.send_with(a, "a secret", "n");
    let id = story.last_id(room);
    story.send(b, "what?");
    story.sink.received_by(b.conn).lines.clear();
    assert_eq!(story.delete_message(ana, room, id), Ok(()));
    story.assert_received(b, &["deletion by ana"]);
    let history = ["deleted chat ana [n]", "chat bob: what?", "deletion by ana"];
    assert_eq!(story.history(room, 3), history);
    assert_eq!(story.delete_message(ana, room, id), Ok(()), "again");
    story.assert_received(b, &[]);
    assert_eq!(story.history(room, 3), history);
}

#[test]
fn only_the_author_and_the_owner_delete_and_neither_need_be_a_member() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let (bob, cyd) = (story.person("bob"), story.person("cyd"));
    let (b, c) = (story.enter(bob, room), story.enter(cyd, room));
    story.send(b, "one");
    let one = story.last_id(room);
    story.send(b, "two");
    let two = story.last_id(room);
    story.send(c, "three");
    assert_eq!(story.delete_message(cyd, room, one), Err(Refusal::NotTheAuthor));
    story.leave(bob, room);
    story.leave(ana, room);
    assert_eq!(story.delete_message(bob, room, one), Ok(()));
    assert_eq!(story.delete_message(cyd, room, one), Err(Refusal::NotTheAuthor), "deleted");
    assert_eq!(story.delete_message(ana, room, two), Ok(()));
    let history = ["deleted chat bob", "deleted chat bob", "chat cyd: three"];
    assert_eq!(story.history(room, 7)[..3], history);
    assert_eq!(story.history(room, 2), ["deletion by bob", "deletion by ana"]);
}

#[test]
fn what_is_no_chat_or_not_kept_cannot_be_deleted() {
    let mut story = Story::with(|config| config.history_messages_max = 2);
    let (ana, room, a) = story.begin("ana");
    let joined = story.last_id(room);
    let missing = Err(Refusal::MessageNotFound);
    assert_eq!(story.delete_message(ana, room, joined), missing);
    story.send(a, "one");
    let one = story.last_id(room);
    assert_eq!(story.delete_message(ana, room, one), Ok(()));
    assert_eq!(story.history(room, 9), ["deleted chat ana", "deletion by ana"]);
    let deletion = story.last_id(room);
    assert_eq!(story.delete_message(ana, room, deletion), missing);
    story.send(a, "two");
    assert_eq!(story.delete_message(ana, room, one), missing);
    let elsewhere = story.room(ana);
    assert_eq!(story.delete_message(ana, elsewhere, deletion), missing);
}

#[test]
fn a_deletion_counts_against_the_message_rate() {
    let mut story = Story::with(|config| config.message_pace = Pace::new(1, SECOND, 2));
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    story.send(a, "one");
    let id = story.last_id(room);
    assert_eq!(story.delete_message(bob, room, id), Err(Refusal::NotTheAuthor));
    assert_eq!(story.delete_message(ana, room, id), Ok(()));
    assert_eq!(story.delete_message(ana, room, id), Err(Refusal::RateLimited(SECOND)));
}

#[test]
fn the_nonce_of_a_deleted_message_stays_known() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.send_with(a, "hello", "n");
    let id = story.last_id(room);
    story.delete_message(ana, room, id).unwrap();
    story.assert_received(a, &["chat ana: hello [n]", "deletion by ana"]);
    story.send_with(a, "hello", "n");
    story.assert_received(a, &["again: deleted chat ana [n]"]);
    let again = story.post(ana, room, "hello", Some("n"));
    assert_eq!(again, Ok(("deleted chat ana [n]".to_owned(), false)));
    assert_eq!(story.history(room, 2), ["deleted chat ana [n]", "deletion by ana"]);
}

/// The connection is sent the first page before the deletion, and the rest after it.
#[test]
fn a_connection_that_catches_up_is_sent_what_is_left_of_a_deleted_message() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let mut ids = Vec::new();
    for _ in 0..8 {
        story.send(a, &"🦀".repeat(4000));
        ids.push(story.last_id(room));
    }
    let bob = story.person("bob");
    let b = story.enter_from(bob, room, Start::Last(8));
    assert_eq!(story.sink.received_by(b.conn).lines.len(), 4, "three messages, and more to come");
    for id in [ids[0], ids[6], ids[7]] {
        story.delete_message(ana, room, id).unwrap();
    }
    story.catch_up(b);
    let lines = story.sink.received_by(b.conn).lines.clone();
    let deleted = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!((deleted("· deleted chat ana"), deleted("deletion by ana")), (2, 3), "{lines:?}");
}

#[test]
fn a_deleted_text_is_gone_from_the_records_and_its_deletion_survives_a_restart() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.send_with(a, "a secret", "n");
    let id = story.last_id(room);
    story.send(a, "kept");
    story.delete_message(ana, room, id).unwrap();
    let (session_id, room_id) = (story.session_id(ana), story.chat.room_id(room).unwrap());
    story.restart(story.now.wall);
    let ana = story.chat.session(session_id).unwrap();
    assert_eq!(story.chat.room(room_id), Some(room), "its slot is the same");
    let history = ["deleted chat ana [n]", "chat ana: kept", "deletion by ana"];
    assert_eq!(story.history(room, 3), history);
    let again = story.post(ana, room, "a secret", Some("n"));
    assert_eq!(again, Ok(("deleted chat ana [n]".to_owned(), false)));
}

/// Deleted and kept messages of several people, while memory is short, so that records are moved.
#[test]
fn deleted_messages_are_dropped_and_moved_like_others() {
    let mut story = Story::with(|config| config.history_messages_max = 20);
    let (ana, room, a) = story.begin("ana");
    for n in 0..100 {
        story.send_with(a, &"x".repeat(1 + n * 7), &n.to_string());
        if n % 3 == 0 {
            let id = story.last_id(room);
            story.delete_message(ana, room, id).unwrap();
        }
    }
    assert_eq!(story.history(room, 100).len(), 20);
    story.delete(ana, room).unwrap();
}
