//! The file, and what it needs of memory while it is written.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::api::texts;
use crate::chat::{
    Chat, ChatConfig, GuessPaces, LockRecord, Pace, RecordedKind, Restoring, RulesRecord,
};
use crate::clock::{Mono, Now, SeededEntropy, Wall};
use crate::ledger::{Account, Ledger};

const ID: &str = "01234567-89ab-cdef-0123-456789abcdef";

fn records() -> Vec<Record<'static>> {
    let room =
        |title: Option<&'static str>, lock, owner, remaining, dropped: Option<&'static str>| {
            Record::Room {
                id: "0123456789".into(),
                title: title.map(Cow::Borrowed),
                created: 7,
                lock,
                owner,
                number: u64::MAX,
                is_new: title.is_some(),
                remaining,
                dropped: dropped.map(Cow::Borrowed),
                creator: title.map(|_| IpAddr::from([192, 0, 2, 1])),
                rules: RulesRecord {
                    is_locked: title.is_some(),
                    is_encrypted: title.is_some(),
                    is_unlisted: title.is_none(),
                    slow_mode: 3600,
                    expiry: title.map(|_| (1 << 50, 0)),
                },
            }
        };
    let lock = LockRecord { salt: [1; 16], hash: [2; 20] };
    let message = |kind, text: &'static str, nonce: Option<&'static str>, from| Record::Message {
        room: 1,
        id: ID.into(),
        kind,
        user: "\u{1f642}".into(),
        user_id: 1 << 63,
        wall: 7,
        text: text.into(),
        nonce: nonce.map(Cow::Borrowed),
        from,
    };
    vec![
        Record::Chat {
            newest: (1 << 47, 0xFFF),
            user_id_secret: *b"0123456789abcdef",
            rooms_opened: 3,
            arrivals: 0,
            history_bytes: [1 << 30, 1 << 40, 0],
            wall: 1 << 50,
        },
        Record::Session {
            id: ID.into(),
            name: "\u{1f642}".into(),
            remaining: None,
            creator: Some("2001:db8::".parse().unwrap()),
        },
        Record::Session {
            id: ID.into(),
            name: "".into(),
            remaining: Some(u64::MAX),
            creator: None,
        },
        room(None, None, None, None, None),
        room(Some("tea"), Some(lock), Some(u32::MAX), Some(0), Some(ID)),
        Record::Member { session: 1, room: 2, arrival: None, address: Some([1, 2, 3, 4, 5, 6, 7]) },
        Record::Member { session: u32::MAX, room: 0, arrival: Some(9), address: None },
        Record::Ban {
            room: 3,
            user_id: 7,
            user: "bo".into(),
            until: (5, 1 << 40),
            address: Some([255; 7]),
        },
        Record::Ban { room: 0, user_id: u64::MAX, user: "é".into(), until: (0, 0), address: None },
        message(RecordedKind::UserLeft, "", None, None),
        message(RecordedKind::UserJoined, "", None, Some("2001:db8::".parse().unwrap())),
        message(RecordedKind::Chat, "\n", Some("n"), Some([192, 0, 2, 1].into())),
    ]
}

/// A directory of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = format!("chat-snapshot-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        Folder(folder)
    }

    fn files(&self) -> Vec<OsString> {
        let mut files: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_counted_size_is_the_size_of_the_file() {
    let folder = Folder::new("size");
    let path = folder.0.join("state");
    let mut passes = Vec::new();
    let written = write(&path, None, |pass, keep| {
        passes.push((pass, fs::metadata(folder.0.join("state.new")).unwrap().len()));
        records().into_iter().try_for_each(keep)
    });
    assert!(written.is_ok());
    assert_eq!(passes, [(Pass::Count, 0), (Pass::Write, 0)], "space is reserved beyond the end");
    let mut bytes = Vec::new();
    records().iter().for_each(|record| encode(record, &mut bytes));
    let size = HEAD.len() + FOOT_BYTES + records().len() + bytes.len();
    assert_eq!(fs::metadata(&path).unwrap().len(), size as u64, "all records are short");
    let mut count = 0;
    let read = read(&path, texts, |_| {
        count += 1;
        Ok(())
    });
    assert!(read.is_ok_and(|is_there| is_there));
    assert_eq!((count, folder.files().len()), (records().len(), 0));
}

/// Where there is a file system in memory, on that too.
#[test]
fn no_file_has_room_for_a_pebibyte() {
    let folder = Folder::new("reserve");
    for path in [folder.0.join("file"), "/dev/shm".into()] {
        let path =
            if path.is_dir() { path.join(format!("chat-{}", std::process::id())) } else { path };
        let Ok(file) = create(&path) else { continue };
        assert!(reserve(&file, 1 << 50).is_err(), "{path:?}");
        assert!(reserve(&file, 10_000).is_ok(), "{path:?}");
        assert_eq!(file.metadata().unwrap().len(), 0);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_failure_leaves_the_file_of_before_and_no_new_one() {
    let folder = Folder::new("failure");
    let path = folder.0.join("state");
    fs::write(&path, "before").unwrap();
    for failing in [Pass::Count, Pass::Write] {
        let written = write(&path, None, |pass, keep| {
            records().into_iter().try_for_each(keep)?;
            if pass == failing { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        });
        assert_eq!(written.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(folder.files(), ["state"], "{failing:?}");
        assert_eq!(fs::read(&path).unwrap(), b"before");
    }
}

#[test]
fn a_path_is_checked_by_making_and_removing_the_new_file() {
    let folder = Folder::new("path");
    let path = folder.0.join("state");
    fs::write(folder.0.join("state.new"), "stale").unwrap();
    assert!(check_path(&path).is_ok());
    assert!(folder.files().is_empty(), "a stale file is removed");
    fs::write(&path, "before").unwrap();
    assert!(check_path(&path).is_ok());
    assert_eq!(folder.files(), ["state"]);
    assert!(check_path(&folder.0.join("nowhere/state")).is_err());
    assert!(check_path(&path.join("below a file")).is_err());
    assert!(check_path(&folder.0).is_err(), "a directory");
    fs::create_dir(folder.0.join("state.new")).unwrap();
    assert!(check_path(&path).is_err());
    assert_eq!(folder.files(), ["state", "state.new"]);
}

#[test]
fn only_complete_encoded_records_are_decoded() {
    for record in records() {
        let mut bytes = Vec::new();
        encode(&record, &mut bytes);
        let read = decode(&bytes, 2, |_| None).expect("an encoded record is decoded");
        let shown = |record: &Record<'_>| serde_json::to_string(record).unwrap();
        assert_eq!(shown(&read), shown(&record));
        for cut in 0..bytes.len() {
            assert!(
                decode(&bytes[..cut], 2, |_| None).is_none(),
                "{} cut at {cut}",
                shown(&record)
            );
        }
        bytes.push(0);
        assert!(decode(&bytes, 2, |_| None).is_none());
    }
    assert!(decode(b"X", 2, |_| None).is_none());
}

/// A domain with 20 rooms of 400 short messages, each from an address of its own. The rooms' blocks are
/// scattered.
fn chat_with_histories(ledger: &Ledger) -> Chat {
    let (second, unlimited) = (Duration::from_secs(1), Pace::UNLIMITED);
    let config = ChatConfig {
        session_ttl: second,
        room_ttl: second,
        new_room_ttl: second,
        leave_grace: second,
        probe_timeout: second,
        history_messages_max: 1000,
        message_pace: unlimited,
        join_pace: unlimited,
        session_pace: unlimited,
        room_pace: unlimited,
        guess_paces: GuessPaces { address: unlimited, room: unlimited },
        address_connections_max: None,
        address_sessions_max: None,
        sessions_max: 100,
        rooms_max: 100,
    };
    let mut chat = Chat::new(config, Box::new(SeededEntropy::new(1)), ledger);
    let mut restoring = Restoring::new(&mut chat, Now { mono: Mono::ZERO, wall: Wall::default() });
    let mut take = |record| restoring.take(record, |_| 100).unwrap();
    take(Record::Chat {
        newest: (1 << 47, 0),
        user_id_secret: [0; 16],
        rooms_opened: 20,
        arrivals: 0,
        history_bytes: [0; 3],
        wall: 0,
    });
    for number in 0..20 {
        take(Record::Room {
            id: format!("{number:010x}").into(),
            title: None,
            created: 0,
            lock: None,
            owner: None,
            number,
            is_new: true,
            remaining: None,
            dropped: None,
            creator: None,
            rules: RulesRecord::default(),
        });
    }
    for n in 0..8000u32 {
        take(Record::Message {
            room: n % 20,
            id: format!("00000000-{:04x}-7000-8000-000000000000", n).into(),
            kind: RecordedKind::Chat,
            user: "ana".into(),
            user_id: 7,
            wall: 1_755_611_100_123_456,
            text: "a short message".into(),
            nonce: None,
            from: Some([203, 0, 113, (n % 20) as u8].into()),
        });
    }
    restoring.finish();
    chat
}

#[test]
fn writing_needs_no_more_memory_than_it_frees_even_if_the_file_is_memory() {
    let folder = Folder::new("memory");
    let (path, new) = (folder.0.join("state"), folder.0.join("state.new"));
    let ledger = Ledger::new();
    let mut chat = chat_with_histories(&ledger);
    let now = Now { mono: Mono::ZERO, wall: Wall::default() };
    let (before, mut messages) = (ledger.total(), 0);
    let written = write(&path, None, |pass, keep| match pass {
        Pass::Count => chat.keep(now, keep),
        Pass::Shrink(_) => unreachable!("there is no limit"),
        Pass::Write => chat.give_up(now, |record| {
            messages += usize::from(matches!(record, Record::Message { .. }));
            keep(record)?;
            let file = fs::metadata(&new)?.len() as usize;
            assert!(ledger.total() + file < before + 16_384, "after {messages} messages");
            Ok(())
        }),
    });
    assert!(written.is_ok());
    assert_eq!((messages, ledger.bytes(Account::Histories)), (8000, 0));
    assert!(!chat.is_sparse());
    chat.check_invariants();
    assert!(fs::metadata(&path).unwrap().len() > 400_000);
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_in_memory_leaves_out_the_oldest_messages_rather_than_exceed_the_limit() {
    let path = Path::new("/dev/shm").join(format!("chat-limit-{}", std::process::id()));
    if !path.parent().is_some_and(Path::is_dir) {
        return println!("skipped: no /dev/shm");
    }
    let ledger = Ledger::new();
    let mut chat = chat_with_histories(&ledger);
    let now = Now { mono: Mono::ZERO, wall: Wall::default() };
    let mut shrunk = false;
    let written = write(&path, Some(200_000), |pass, keep| match pass {
        Pass::Count => chat.keep(now, keep),
        Pass::Shrink(bytes) => {
            shrunk = true;
            chat.drop_oldest(bytes);
            chat.check_invariants();
            Ok(())
        }
        Pass::Write => chat.give_up(now, keep),
    });
    assert!(written.is_ok() && shrunk);
    let size = fs::metadata(&path).unwrap().len();
    assert!((150_000..=200_000).contains(&size), "{size}");
    // The rooms that have been silent longest have lost their messages, and know it.
    let (mut rooms, mut dropped) = (Vec::new(), 0);
    let is_read = read(&path, texts, |record| {
        match record {
            Record::Room { dropped: Some(_), .. } => dropped += 1,
            Record::Message { room, .. } => rooms.push(room),
            _ => {}
        }
        Ok(())
    });
    assert!(is_read.is_ok_and(|is_there| is_there));
    rooms.dedup();
    assert!(rooms.len() < 12 && rooms.len() + dropped >= 20, "{rooms:?}, {dropped} dropped");
    assert_eq!(rooms.last(), Some(&19), "the newest are kept");
}

#[test]
fn memory_that_written_messages_leave_is_given_back_at_once() {
    let ledger = Ledger::new();
    let mut chat = chat_with_histories(&ledger);
    let (all, mut messages) = (ledger.bytes(Account::Histories), 0);
    let now = Now { mono: Mono::ZERO, wall: Wall::default() };
    let failed = chat.give_up(now, |record| {
        messages += usize::from(matches!(record, Record::Message { .. }));
        if messages < 6000 { Ok(()) } else { Err(()) }
    });
    assert_eq!(failed, Err(()));
    let left = ledger.bytes(Account::Histories);
    assert!(left < all / 3, "{left} of {all}");
    assert!(!chat.is_sparse(), "their blocks are scattered");
    chat.check_invariants();
}

/// `tests/wire/restarts.rs` starts a server with the same file.
#[test]
fn a_file_of_version_1_is_read() {
    let folder = Folder::new("version-1");
    let path = folder.0.join("state");
    fs::write(&path, include_bytes!("../../tests/wire/state-version-1")).unwrap();
    let mut shown = Vec::new();
    let taken = read(&path, texts, |record| {
        shown.push(serde_json::to_string(&record).unwrap());
        Ok(())
    });
    assert!(matches!(taken, Ok(true)) && !path.exists());
    assert_eq!(shown.len(), 15);
    assert!(shown[0].contains("\"history_bytes\":[0,0,0]"), "{}", shown[0]);
    let session = r#"{"Session":{"id":"a2e06815-acfa-4d9a-b2ad-d18362c9e397","name":"Ana","remaining":null,"creator":null}}"#;
    assert_eq!(shown[2], session);
    let message = r#"{"Message":{"room":0,"id":"01a22632-0e98-7000-b840-2f9eab55bb94","kind":"Chat","user":"Ana","user_id":3962523220279139535,"wall":1795937144472846,"text":"message 0 \"quoted\" 🙂","nonce":"n0","from":null}}"#;
    assert_eq!(shown[8], message);
}

#[test]
fn a_number_has_as_many_bytes_as_it_needs() {
    for (number, length) in [(0, 1), (127, 1), (128, 2), (1 << 14, 3), (u64::MAX, 10)] {
        let mut bytes = Vec::new();
        Encoder(&mut bytes).number(number);
        assert_eq!(bytes.len(), length);
        assert_eq!(Decoder { bytes: &bytes, version: 2 }.number(), Some(number));
    }
    let endless = [0xFF; 11];
    assert_eq!(Decoder { bytes: &endless, version: 2 }.number(), None);
}
