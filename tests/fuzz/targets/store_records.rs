//! The records of a cluster's store: any bytes are a record or an error, and a record that is decoded
//! and encoded again is the same record.
//!
//! Owns these properties. Must not know the form of a record, for which the unit tests have examples.
#![no_main]

use disposable_chat::chat::{MessageKind, MessagePlace, RoomId};
use disposable_chat::cluster::Reply;
use disposable_chat::cluster::record::{
    MessageBody, StorePush, encode_message, entry, facts, message, messages, people, place, rooms,
    snapshot,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let room = RoomId::parse("a1b2c3d4e5").expect("ten digits");
    let mut out = Vec::new();
    if let Ok(body) = MessageBody::decode(data) {
        body.encode(&mut out);
        assert_eq!(MessageBody::decode(&out), Ok(body));
    }
    let at = MessagePlace { millis: 1, counter: 2 };
    if let Ok(one) = message(room, at, data) {
        out.clear();
        encode_message(&one, &mut out);
        let again = message(room, one.id.place(), &out).expect("what we encode can be decoded");
        assert_eq!(format!("{one:?}"), format!("{again:?}"));
        if let MessageKind::Chat(text) = one.kind {
            assert!(data.ends_with(text.as_bytes()), "the text is the rest");
        }
    }
    if let Ok(place) = place(data) {
        assert_eq!(
            disposable_chat::cluster::record::place(place.to_string().as_bytes()),
            Ok(place)
        );
    }
    let _ = facts(room, data);
    let _ = StorePush::decode(data);

    // The input as a list: texts between line breaks, lists between bars.
    let text = |part: &[u8]| Reply::Text(part.to_vec());
    let list = |part: &[u8]| Reply::List(part.split(|byte| *byte == b'\n').map(text).collect());
    let lists: Vec<Reply> = data.split(|byte| *byte == b'|').map(list).collect();
    for one in &lists {
        let _ = entry(room, one);
        let _ = messages(room, one.items()).count();
        let _ = people(one.items()).count();
        let _ = rooms(one.items()).count();
    }
    let _ = snapshot(room, &Reply::List(lists));
});
