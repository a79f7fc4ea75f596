//! Attacks on the memory ceiling, measured by the kernel: whatever strangers do, resident memory stays within the
//! ceiling, a tenth of it and 8 MiB, and the server still answers a newcomer.
//!
//! Each test is one attack that once exceeded the ceiling, or took it all. It runs with a ceiling of 16 MiB, and
//! under `SLOW_TESTS=1` with 32 and 256 MiB. Rate limits are off, so that what takes an attacker minutes takes
//! seconds; nothing else is. Attackers and others have addresses of their own, by `X-Forwarded-For`.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{
    Answer, CONTINUATION, FIN, Http, Request, TEXT, Ws, delete, frame, frame_header, get, post,
    upgrade,
};
use crate::memory::{PATIENT, counted};
use crate::server::{
    Server, after, alone_if_slow, command, is_slow, raise_descriptor_limit, wait_until,
};

/// The longest message: 4,000 characters of four bytes.
fn longest() -> String {
    "\u{1F984}".repeat(4000)
}

/// Runs an attack under each ceiling.
fn under_each_ceiling(what: &str, attack: impl Fn(&Target)) {
    raise_descriptor_limit();
    let sizes: &[usize] = if is_slow() { &[32, 256] } else { &[16] };
    for mib in sizes {
        let target = Target::new(*mib, &[]);
        let start = Instant::now();
        attack(&target);
        target.check(what, start.elapsed());
    }
}

/// A server that is attacked.
struct Target {
    server: Server,
    /// In bytes.
    ceiling: u64,
}

impl Target {
    fn new(mib: usize, more: &[&str]) -> Target {
        Target::after("", mib, more)
    }

    /// After a shell's commands in the same process.
    fn after(commands: &str, mib: usize, more: &[&str]) -> Target {
        let ceiling = format!("{mib}M");
        let limits = ["--max-memory", &ceiling, "--history", "100000"];
        let flags = [&PATIENT[..], &limits, more].concat();
        let command = if commands.is_empty() { command(&[], &[]) } else { after(commands) };
        let server = Server::spawn_with_metrics(command, &flags);
        Target { server, ceiling: (mib << 20) as u64 }
    }

    /// The bytes that a percentage of the ceiling is.
    fn percent(&self, percent: u64) -> u64 {
        self.ceiling / 100 * percent
    }

    /// Asserts what holds after every attack.
    fn check(&self, what: &str, took: Duration) {
        let server = &self.server;
        let most = server.resident_kib_max() * 1024;
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        println!(
            "{what:34} ceiling {:3} MiB: at most {:6.2} MiB resident ({:3} %), now {:6.2}, counted {:6.2}; {:.1} s",
            self.ceiling >> 20,
            mib(most),
            most * 100 / self.ceiling,
            mib(server.resident_kib() * 1024),
            mib(counted(server)),
            took.as_secs_f64(),
        );
        let allowed = server.resident_allowed(self.ceiling);
        assert!(most <= allowed, "{what}: {most} bytes resident, {allowed} allowed");
        wait_until("a newcomer is answered", || {
            let open = from("198.51.100.7", post("/sessions")).json(&json!({"username": "late"}));
            server.http().ask(&open).status == 201
        });
    }

    fn session(&self, address: &str) -> String {
        self.sessions(address, 1).remove(0)
    }

    fn sessions(&self, address: &str, count: usize) -> Vec<String> {
        let open =
            |n| from(address, post("/sessions")).json(&json!({"username": format!("user {n}")}));
        let answers = ask_all(
            &self.server,
            &mut self.server.http(),
            &(0..count).map(open).collect::<Vec<_>>(),
        );
        answers.into_iter().map(|answer| answer.expect(201).string("session_id")).collect()
    }

    fn rooms(&self, address: &str, session: &str, count: usize) -> Vec<String> {
        let open = from(address, post("/rooms")).session(session);
        let answers = expect_all(&self.server, count, &open).into_iter();
        answers.map(|answer| answer.string("room_id")).collect()
    }

    fn enter(&self, address: &str, room: &str, session: &str) -> Ws {
        let target = format!("/ws/{room}?session_id={session}");
        self.server.upgrade(from(address, upgrade(&target)))
    }

    /// Quiet rooms of other people, each of an address of its own, with a few messages.
    fn quiet_rooms(&self, count: usize) -> Vec<Quiet> {
        let open = |n: usize| {
            let session = self.session(&format!("192.0.2.{n}"));
            let room = self.server.room(&session);
            for k in 0..10 {
                self.server.say(&room, &session, &format!("quiet {k}"));
            }
            Quiet { session, room }
        };
        (0..count).map(open).collect()
    }

    fn expect_kept(&self, quiet: &[Quiet]) {
        for (n, Quiet { session, room }) in quiet.iter().enumerate() {
            let kept = self.server.messages(room, session).len();
            assert_eq!(kept, 10, "quiet room {n} has lost messages");
        }
    }
}

struct Quiet {
    session: String,
    room: String,
}

/// The request as one of this client, through the trusted proxy.
fn from(address: &str, request: Request) -> Request {
    request.field("X-Forwarded-For", address)
}

fn say(address: &str, room: &str, session: &str, message: &str) -> Request {
    let target = format!("/rooms/{room}/messages");
    from(address, post(&target)).session(session).json(&json!({"message": message}))
}

/// Sends requests over one connection, so many at a time that neither side waits for the other to read. Each must
/// succeed or be refused because memory is short; the server may also close the connection for that reason, and then
/// the rest is sent over a new one.
fn ask_all(server: &Server, http: &mut Http, requests: &[Request]) -> Vec<Answer> {
    let bytes = requests.first().map_or(0, |first| first.bytes("").len());
    let at_once = (200_000 / bytes.max(1)).clamp(1, 40);
    let mut answers = Vec::new();
    for some in requests.chunks(at_once) {
        match http.try_pipeline(some) {
            Some(more) => answers.extend(more),
            None => *http = server.http(),
        }
    }
    let unexpected = answers.iter().find(|one| !matches!(one.status, 200 | 201 | 503));
    assert!(unexpected.is_none(), "{unexpected:?}");
    answers
}

fn expect_all(server: &Server, count: usize, request: &Request) -> Vec<Answer> {
    let answers = ask_all(server, &mut server.http(), &vec![request.clone(); count]);
    answers.into_iter().map(|answer| answer.expect(201)).collect()
}

/// Robson's program: messages of one size, of which those are deleted that leave holes too small for the next size.
/// The messages that stay keep the holes apart. Resident memory was 217 % of the ceiling.
#[test]
fn messages_of_growing_sizes_between_which_rooms_are_deleted_do_not_fragment_the_heap() {
    const ROOMS: usize = 32;
    under_each_ceiling("rooms that leave holes", |target| {
        let address = "203.0.113.1";
        let session = target.session(address);
        let mut http = target.server.http();
        let mut kept: Vec<Vec<Option<String>>> = Vec::new();
        let first = if is_slow() { 0 } else { 1 };
        for step in first..5 {
            let rooms = target.rooms(address, &session, ROOMS);
            // Each size is a little more than twice the last: two neighbours leave a hole too small for it.
            let bytes = ((1000 << step) + 40 * step).min(16_000);
            let text = if step < 2 { "x".repeat(bytes) } else { "\u{1F984}".repeat(bytes / 4) };
            let posts: Vec<_> =
                rooms.iter().map(|room| say(address, room, &session, &text)).collect();
            // Until the next messages would cost old ones.
            for _ in 0..target.ceiling as usize / bytes / ROOMS {
                ask_all(&target.server, &mut http, &posts);
                if counted(&target.server) > target.percent(74) {
                    break;
                }
            }
            kept.push(rooms.into_iter().map(Some).collect());
            for (age, rooms) in kept.iter_mut().rev().enumerate() {
                for (place, room) in rooms.iter_mut().enumerate() {
                    if place % (2 << age) != 0 {
                        if let Some(room) = room.take() {
                            let end = delete(&format!("/rooms/{room}")).session(&session);
                            ask_all(&target.server, &mut http, &[end]);
                        }
                    }
                }
            }
        }
    });
}

/// With the rates of the default, resident memory was at 124 % of the ceiling after 18 s, with a count of 78 %, and
/// with unfinished fragments beside them the server was killed.
// contract §12.22
#[test]
fn longest_messages_beside_unfinished_ones_stay_within_the_ceiling() {
    let _alone = alone_if_slow();
    under_each_ceiling("longest messages", say_longest);
}

/// 60 sessions of one address say the longest message, while 200 sockets of others hold an unfinished one.
fn say_longest(target: &Target) {
    let address = "203.0.113.1";
    let sessions = target.sessions(address, 60);
    let rooms: Vec<_> =
        sessions.iter().map(|one| target.rooms(address, one, 1).remove(0)).collect();
    let unfinished: Vec<_> = (1..=5).flat_map(|n| fragments(target, n, 40, 40_000)).collect();
    let text = longest();
    let both = sessions.iter().zip(&rooms);
    let mut talkers: Vec<_> = both.map(|(one, room)| target.enter(address, room, one)).collect();
    // Twice the ceiling.
    for _ in 0..2 * target.ceiling as usize / (16_000 * talkers.len()) {
        for ws in &mut talkers {
            ws.chat(&text);
            ws.skim();
        }
    }
    drop(unfinished);
}

/// Sockets of one address that hold an unfinished message of `bytes` bytes in fragments of 1,000.
fn fragments(target: &Target, number: usize, count: usize, bytes: usize) -> Vec<Ws> {
    let address = format!("203.0.114.{number}");
    let sessions = target.sessions(&address, count.div_ceil(20));
    let room = target.rooms(&address, &sessions[0], 1).remove(0);
    let mut input = frame(TEXT, [b'x'; 1000]);
    input.extend(frame(CONTINUATION, [b'x'; 1000]).repeat(bytes / 1000 - 1));
    let hold = |n: usize| {
        let mut ws = target.enter(&address, &room, &sessions[n / 20]);
        let _ = ws.try_send(&input); // It may be closed meanwhile.
        ws
    };
    (0..count).map(hold).collect()
}

/// 600 sockets with 34 fragments of 1,000 bytes: counted 20.3 MB, resident 30.8. 3,000 sockets with 59 KB: 187 % of
/// a ceiling of 32 MiB.
// contract §12.22
#[test]
fn messages_in_fragments_cost_what_is_counted_and_nobody_else() {
    let _alone = alone_if_slow();
    under_each_ceiling("messages in fragments", |target| {
        let quiet = target.quiet_rooms(20);
        let sockets = if is_slow() { 600 } else { 120 };
        let held: Vec<_> = (1..=5).flat_map(|n| fragments(target, n, sockets, 59_000)).collect();
        target.server.ask(get("/ping")).expect(200);
        target.expect_kept(&quiet);
        drop(held);
    });
}

/// The header of a 64 KiB frame and one byte counted as 64 KiB: the count was at 90 % with 6 MiB resident, all
/// histories were erased, and newcomers got 503 for as long as it lasted.
// contract §12.22
#[test]
fn declared_frames_cost_nobody_else_anything() {
    let _alone = alone_if_slow();
    under_each_ceiling("declared frames", |target| {
        let quiet = target.quiet_rooms(20);
        let per_address: usize = if is_slow() { 200 } else { 40 };
        let mut held = Vec::new();
        for network in 1..=18 {
            let address = format!("2001:db8:0:{network}::1");
            let sessions = target.sessions(&address, per_address.div_ceil(20));
            let room = target.rooms(&address, &sessions[0], 1).remove(0);
            for n in 0..per_address {
                let mut ws = target.enter(&address, &room, &sessions[n / 20]);
                let mut begun = frame_header(FIN | TEXT, 64 * 1024 - 100);
                begun.extend([0; 5]); // The mask and one byte.
                let _ = ws.try_send(begun);
                held.push(ws);
            }
        }
        // While the attack lasts.
        target.session("198.51.100.8");
        target.expect_kept(&quiet);
        assert_eq!(target.server.metric("chat_messages_forgotten_total"), 0);
        drop(held);
    });
}

/// After 18 s the histories of 20 quiet rooms were gone, and those of the attacker were kept.
// contract §12.22
#[test]
fn one_address_that_fills_its_rooms_loses_its_own_messages_and_nobody_elses() {
    under_each_ceiling("one address fills its rooms", |target| {
        let quiet = target.quiet_rooms(20);
        let address = "203.0.113.1";
        let sessions = target.sessions(address, 60);
        let rooms: Vec<_> =
            sessions.iter().map(|one| target.rooms(address, one, 1).remove(0)).collect();
        let mut http = target.server.http();
        for size in [4000, 700] {
            let text = "x".repeat(size);
            let both = sessions.iter().zip(&rooms);
            let posts: Vec<_> = both.map(|(one, room)| say(address, room, one, &text)).collect();
            for _ in 0..target.ceiling as usize * size / 4000 / (size * posts.len()) {
                ask_all(&target.server, &mut http, &posts);
            }
        }
        assert!(target.server.metric("chat_messages_forgotten_total") > 1000);
        target.expect_kept(&quiet);
    });
}

/// Four readers that took 4 KiB/s of `GET …/messages` held 78 % of 64M for as long as watched, although the rooms
/// were deleted.
// contract §12.22
#[test]
fn a_slow_reader_of_messages_does_not_keep_a_deleted_room() {
    under_each_ceiling("slow readers of messages", |target| {
        let address = "203.0.113.1";
        let session = target.session(address);
        let rooms = target.rooms(address, &session, 4);
        let mut http = target.server.http();
        let text = longest();
        for room in &rooms {
            let posts = vec![say(address, room, &session, &text); 40];
            for _ in 0..target.percent(17) as usize / 16_000 / 40 {
                ask_all(&target.server, &mut http, &posts);
            }
        }
        let slow: Vec<_> = rooms
            .iter()
            .flat_map(|room| [room; 3])
            .map(|room| {
                let mut http = target.server.http_narrow();
                let path = format!("/rooms/{room}/messages?limit=1000");
                http.send_request(&from(address, get(&path)).session(&session));
                http
            })
            .collect();
        for room in &rooms {
            let end = delete(&format!("/rooms/{room}")).session(&session);
            ask_all(&target.server, &mut http, &[end]);
        }
        assert!(counted(&target.server) < target.percent(30), "{}", counted(&target.server));
        drop(slow);
    });
}

/// A listing is one copy for all requests, until a room is opened. Slow readers of one listing each made the
/// server keep as many: the histories of others were erased for them.
// contract §12.22
#[test]
fn slow_readers_of_outdated_listings_cost_nobody_else_anything() {
    under_each_ceiling("slow readers of listings", |target| {
        let quiet = target.quiet_rooms(20);
        let address = "203.0.113.1";
        let session = target.session(address);
        let title = json!({"title": "x".repeat(80)});
        let other = "203.0.113.2";
        let open = from(other, post("/rooms")).session(&target.session(other)).json(&title);
        let rooms = if is_slow() { 10 * 200 } else { 5 * 200 };
        for one in target.sessions(address, rooms / 200) {
            let open = from(address, post("/rooms")).session(&one).json(&title);
            expect_all(&target.server, 200, &open);
        }
        let ask = |_| {
            let mut http = target.server.http_narrow();
            http.send_request(&from(address, get("/rooms/all?detail=true")).session(&session));
            // The listing is rendered, and then outdated.
            wait_until("the listing is asked for", || {
                target.server.ask(open.clone()).status == 201
            });
            http
        };
        let slow: Vec<_> = (0..180).map(ask).collect();
        target.expect_kept(&quiet);
        assert_eq!(target.server.metric("chat_messages_forgotten_total"), 0);
        drop(slow);
    });
}

/// 10,000 people entered one room and left: 219 MiB stayed resident, with a count of 5.
#[test]
fn many_people_who_enter_one_room_and_leave_leave_nothing_resident() {
    let _alone = alone_if_slow();
    raise_descriptor_limit();
    let count = if is_slow() { 10_000 } else { 1000 };
    let target = Target::new(256, &["--max-sessions", "20000"]);
    let start = Instant::now();
    let owner = target.session("198.51.100.1");
    let room = target.server.room(&owner);
    let mut sockets: Vec<Ws> = Vec::new();
    let mut http = target.server.http();
    for first in (0..count).step_by(100) {
        let clients: Vec<_> =
            (first..first + 100).map(|n| (n, format!("10.0.{}.{}", n >> 8, n & 255))).collect();
        let open = |(n, address): &(usize, String)| {
            from(address, post("/sessions")).json(&json!({"username": format!("guest {n}")}))
        };
        let open: Vec<_> = clients.iter().map(open).collect();
        let sessions = ask_all(&target.server, &mut http, &open);
        let ask = |((_, address), session): (&(usize, String), &Answer)| {
            let target_path = format!("/ws/{room}?session_id={}", session.string("session_id"));
            let mut http = target.server.http();
            http.send_request(&from(address, upgrade(&target_path)));
            http
        };
        let asked: Vec<_> = clients.iter().zip(&sessions).map(ask).collect();
        sockets.extend(asked.into_iter().map(Http::upgraded));
        // Most lag behind: they read what has happened since they entered only now and then.
        if first % 1000 == 900 {
            sockets.iter_mut().for_each(Ws::skim);
        }
    }
    let present = target.server.user_count(&room);
    assert!(present.is_some_and(|present| present > count as u64 / 2), "{present:?}");
    for ws in sockets {
        ws.reset();
    }
    wait_until("all have left", || {
        target.server.metric("chat_connections{protocol=\"websocket\"}") == 0
    });
    target.check("one room that all leave", start.elapsed());
    let resident = target.server.resident_kib();
    assert!(resident <= 24 * 1024, "{resident} KiB resident after all have left");
}

/// Frames of growing sizes are held by outboxes of peers that do not read. Every second peer is gone before the next
/// size, so that its frames leave holes.
#[test]
fn slow_readers_that_leave_holes_do_not_fragment_the_heap() {
    raise_descriptor_limit();
    let sizes: &[usize] = if is_slow() { &[32, 256] } else { &[16] };
    for mib in sizes {
        let target = Target::new(*mib, &["--history", "0", "--outbox", "8M"]);
        let start = Instant::now();
        hold_outboxes(&target);
        target.check("slow readers that leave holes", start.elapsed());
    }
}

fn hold_outboxes(target: &Target) {
    const READERS: usize = 16;
    let address = "203.0.113.1";
    let session = target.session(address);
    let rooms = target.rooms(address, &session, READERS);
    let stall = |room: &String| {
        let path = format!("/ws/{room}?session_id={session}");
        target.server.http_narrow().upgrade(&from(address, upgrade(&path)))
    };
    let mut readers: Vec<_> = rooms.iter().map(stall).map(Some).collect();
    let mut http = target.server.http();
    let outboxes = || target.server.metric("chat_outbox_bytes");
    // First the kernel's buffers are filled.
    let posts: Vec<_> = rooms.iter().map(|room| say(address, room, &session, &longest())).collect();
    while outboxes() < target.percent(5) {
        (0..10).for_each(|_| _ = ask_all(&target.server, &mut http, &posts));
    }
    for step in 0..5 {
        for (place, reader) in readers.iter_mut().enumerate() {
            if place % (1 << step) != 0 {
                let _ = reader.take().map(Ws::reset);
            }
        }
        let live = rooms.iter().zip(&readers).filter(|(_, one)| one.is_some());
        let text = "x".repeat(250 << step);
        let posts: Vec<_> = live.map(|(room, _)| say(address, room, &session, &text)).collect();
        for _ in 0..target.percent(40) as usize / text.len() / posts.len() {
            ask_all(&target.server, &mut http, &posts);
            if outboxes() > target.percent(35) || target.server.metric("chat_shed_total") > 0 {
                break;
            }
        }
    }
}

/// One wrong password in each of 2,400 rooms from each of 256 networks: 126 % counted, 272 % resident. Nothing could
/// be shed, and everybody got 503.
#[test]
fn wrong_passwords_take_no_more_than_their_table() {
    under_each_ceiling("wrong passwords", |target| {
        let (rooms, networks) = if is_slow() { (200, 256) } else { (64, 80) };
        let address = "203.0.113.1";
        let session = target.session(address);
        let open =
            from(address, post("/rooms")).session(&session).json(&json!({"password": "sesame"}));
        let rooms = expect_all(&target.server, rooms, &open);
        let rooms: Vec<_> = rooms.into_iter().map(|answer| answer.string("room_id")).collect();
        let before = counted(&target.server);
        let guesser = target.session(address);
        let mut http = target.server.http();
        for network in 0..networks {
            let guess = |room: &String| {
                let join = post(&format!("/rooms/{room}/join")).session(&guesser);
                from(&format!("2001:db8:0:{network:x}::1"), join).json(&json!({"password": "x"}))
            };
            let guesses: Vec<_> = rooms.iter().map(guess).collect();
            for answer in guesses.chunks(40).flat_map(|some| http.pipeline(some)) {
                assert!(matches!(answer.status, 403 | 429), "{answer:?}");
            }
        }
        let grown = counted(&target.server) - before;
        // 4,096 guessers of about 115 bytes.
        assert!(grown < 640 << 10, "{grown} bytes counted for wrong passwords");
    });
}

/// A control group of version 2, as files in a folder that is mounted over the real ones for the server alone.
struct Group {
    folder: PathBuf,
}

impl Group {
    /// `None`: this user may not mount anything.
    fn new(max: u64) -> Option<Group> {
        let folder = std::env::temp_dir().join(format!("wire-{}-group", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let group = Group { folder };
        group.write("memory.max", max);
        group.take(0);
        let mut unshare = Command::new("unshare");
        let run = unshare.args(["--mount", "sh", "-c", &group.mount()]).stderr(Stdio::null());
        run.status().is_ok_and(|status| status.success()).then_some(group)
    }

    fn mount(&self) -> String {
        format!("mount --bind {} /sys/fs/cgroup", self.folder.display())
    }

    fn write(&self, name: &str, number: u64) {
        // In place, because the server has the file open.
        fs::write(self.folder.join(name), format!("{number:<20}\n")).expect("a file");
    }

    /// Lets the group have taken so many bytes, beside a MiB of cached files.
    fn take(&self, bytes: u64) {
        let text = "anon 1\ninactive_file 524288\nactive_file 524288\n";
        fs::write(self.folder.join("memory.stat"), text).expect("a file");
        self.write("memory.current", bytes + (1 << 20));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The kernel counts the buffers of sockets and files in memory against `MemoryMax=`. Nothing of it is resident.
// contract §12.22
#[test]
fn near_the_limit_of_the_control_group_the_server_gives_way_although_little_is_resident() {
    let Some(group) = Group::new(90 << 20) else {
        println!("skipped: needs the right to mount");
        return;
    };
    // The shell becomes the one that mounts, in a mount namespace of its own, and that one the server.
    let mount = group.mount();
    let enter = format!("exec unshare --mount sh -c '{mount}; exec \"$0\" \"$@\"' \"$0\" \"$@\"");
    let target = Target::after(&enter, 64, &[]);
    let mut http = target.server.http();
    let mut status = |expected: u16| {
        let open = post("/sessions").json(&json!({"username": "late"}));
        wait_until("a reading follows", || http.ask(&open).status == expected);
    };
    let (_room, mut ana, mut bob) = target.server.room_of_two();
    status(201);
    group.take(90 << 20);
    status(503);
    for n in 0..20 {
        ana.chat(&format!("still here {n}"));
        bob.expect_chat("ana", &format!("still here {n}"));
        ana.expect_chat("ana", &format!("still here {n}"));
    }
    group.take(20 << 20);
    status(201);
}

/// Flags, and an attack on a server that has them.
type Attack = (&'static [&'static str], fn(&Target));

/// With `CHAT_CGROUP=/sys/fs/cgroup/…`, a folder in which this user may make control groups, and `SLOW_TESTS=1`.
#[test]
fn under_the_limit_of_the_service_the_server_is_not_killed() {
    let Some(parent) = std::env::var_os("CHAT_CGROUP").filter(|_| is_slow()) else {
        println!("skipped: needs SLOW_TESTS=1 and CHAT_CGROUP");
        return;
    };
    let _alone = alone_if_slow();
    raise_descriptor_limit();
    let without_histories: &[&str] = &["--history", "0", "--outbox", "8M"];
    let attacks: [Attack; 2] = [(&[], say_longest), (without_histories, hold_outboxes)];
    for (more, attack) in attacks {
        for mib in [32_usize, 64, 256] {
            let folder = Path::new(&parent).join(format!("chat-{}", std::process::id()));
            fs::create_dir(&folder).expect("a control group");
            let max = (mib << 20) + (mib << 20) / 3;
            let [first, second] = ["memory.max", "memory.limit_in_bytes"];
            let name = if folder.join(first).exists() { first } else { second };
            fs::write(folder.join(name), max.to_string()).expect("a limit");
            let state = Path::new("/dev/shm").join(format!("chat-{}-state", std::process::id()));
            let join = format!("echo $$ >{}/cgroup.procs", folder.display());
            let more = [more, &["--state", state.to_str().expect("a path")]].concat();
            let mut target = Target::after(&join, mib, &more);
            attack(&target);
            target.check("in a control group", Duration::ZERO);
            target.server.terminate();
            assert_eq!(target.server.wait().code(), Some(0), "it has written its state");
            fs::remove_file(&state).expect("a state file");
            fs::remove_dir(&folder).expect("an empty control group");
        }
    }
}
