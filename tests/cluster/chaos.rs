//! Writers with nonces and readers that resume, through a balancer, while servers and their store are
//! killed, stopped, cut off, replaced and started again.
//!
//! Two stories are told at the same time, each on a store of its own: what happens to servers, and what
//! happens to stores. In both, every message that was answered is read once, in one order, by every
//! reader, or the reader is told that what it has is not complete; in the end nobody is present who is not, and
//! nothing is left in the store. What goes wrong, and in which order, is drawn from a seed.
//!
//! A test that fails says which message is missing where, and after which fault it was answered.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::{delete, get, post};
use crate::link::Link;
use crate::nodes::Nodes;
use crate::people::{Answered, END, Journal, PATIENCE, Scene, Seen, Way};
use crate::server::{Address, is_slow, wait_until};
use crate::stores::{Engine, Store};
use crate::successor::Successor;

const SEED: u64 = 18;

/// The limits of one server that a crowd from one address would meet, and a history that keeps all.
const FLAGS: &[&str] = &["--message-rate", "0", "--history", "100000"];

const READERS: [Way; 4] = [Way::Socket, Way::Events, Way::Socket, Way::Events];

/// What is in a store that nobody uses. Meters of addresses and the like go with time.
const FIXED: [&str; 3] = ["cfg", "lease", "nodes"];

/// xorshift64: what the order of faults needs.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn pause(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

fn signal(store: &Store, signal: Signal) {
    let pid = Pid::from_raw(store.pid() as i32).expect("a process");
    kill_process(pid, signal).expect("the store is there");
}

/// Ends a story when it is dropped, also by a panic: the scope of its threads waits for those that write.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The people of a story.
struct Crowd<'scope> {
    owner: String,
    sessions: Vec<String>,
    readers: Vec<ScopedJoinHandle<'scope, Seen>>,
    writers: Vec<ScopedJoinHandle<'scope, Vec<Answered>>>,
}

fn scene(nodes: &Nodes) -> (Scene, String) {
    let Address::Tcp(address) = nodes.address().clone() else { panic!("not an address") };
    let owner = nodes.session("owner");
    let scene = Scene {
        address,
        room: nodes.room(&owner),
        journal: Journal::begin(),
        is_over: AtomicBool::new(false),
        gate: RwLock::new(()),
        marks: READERS.iter().map(|_| AtomicUsize::new(0)).collect(),
    };
    (scene, owner)
}

impl<'scope> Crowd<'scope> {
    fn enter<'env>(
        scope: &'scope Scope<'scope, 'env>,
        nodes: &Nodes,
        scene: &'env Scene,
        owner: String,
    ) -> Crowd<'scope>
    where
        'env: 'scope,
    {
        let mut sessions = vec![owner.clone()];
        let mut new = |name: String| {
            let session = nodes.session(&name);
            sessions.push(session.clone());
            session
        };
        let readers = READERS.iter().enumerate().map(|(number, way)| {
            let session = new(format!("reader {number}"));
            scope.spawn(move || scene.read(number, &session, *way))
        });
        let readers = readers.collect();
        let writers = (0..6).map(|number| {
            let session = new(format!("writer {number}"));
            nodes.join(&scene.room, &session);
            scope.spawn(move || match number {
                0 | 1 => scene.write_by_socket(number, &session),
                // Long ones, so that a server that reads nothing has soon been sent too much.
                2 | 3 => scene.write(number, &session, 2000),
                _ => scene.write(number, &session, 0),
            })
        });
        let writers = writers.collect();
        Crowd { owner, sessions, readers, writers }
    }

    /// The writers stop; the readers read until the last message.
    fn end(
        self,
        scene: &Scene,
        marks: Vec<Answered>,
        says_end: bool,
    ) -> (Vec<Answered>, Vec<Seen>) {
        scene.is_over.store(true, Ordering::Release);
        let written = self.writers.into_iter().flat_map(|one| one.join().expect("a writer"));
        let mut written: Vec<Answered> = written.chain(marks).collect();
        if says_end {
            written.push(scene.say(&self.owner, END, 0).expect("the session lives"));
        }
        written.sort_by(|one, other| one.id.cmp(&other.id));
        let seen = self.readers.into_iter().map(|one| one.join().expect("a reader"));
        (written, seen.collect())
    }
}

/// Every message that was answered was read once by every reader. `lost`: what a store has lost.
fn check(scene: &Scene, written: &[Answered], seen: &[Seen], is_lost: impl Fn(&Answered) -> bool) {
    let mut faults = Vec::new();
    for (number, reader) in seen.iter().enumerate() {
        let read: HashSet<&str> = reader.texts().collect();
        for one in written.iter().filter(|one| !read.contains(one.text.as_str())) {
            let fault = scene.journal.fault(one.fault);
            faults.push(format!(
                "reader {number} lacks {} {}, answered after {fault}",
                one.text, one.id
            ));
        }
        let last: Vec<(&str, &str)> =
            reader.runs.last().into_iter().flatten().map(|(id, text)| (&**id, &**text)).collect();
        let kept = written.iter().filter(|one| !is_lost(one));
        let kept: Vec<(&str, &str)> = kept.map(|one| (&*one.id, &*one.text)).collect();
        if last != kept {
            let at = last.iter().zip(&kept).position(|(one, other)| one != other);
            let at = at.unwrap_or(last.len().min(kept.len()));
            let fault =
                written.iter().find(|one| kept.get(at).is_some_and(|(id, _)| one.id == *id));
            faults.push(format!(
                "reader {number}: message {at} is {:?} instead of {:?}, which was answered after {}",
                last.get(at),
                kept.get(at),
                fault.map_or("the end".to_owned(), |one| scene.journal.fault(one.fault)),
            ));
        }
        if reader.resumed < 2 {
            faults.push(format!("nothing has happened to reader {number}"));
        }
    }
    faults.truncate(20);
    assert!(faults.is_empty(), "of {} messages:\n{}", written.len(), faults.join("\n"));
    assert!(written.len() > 300, "only {} messages", written.len());
}

/// Once all have gone, nobody is present; once the room and the sessions have ended, nothing is left.
fn leave_nothing(nodes: &Nodes, store: &Store, scene: &Scene, crowd: &[String], owner: &str) {
    let users = format!("/rooms/{}/users", scene.room);
    for number in 0..nodes.count() {
        wait_until("nobody is present", || {
            let answer = nodes.node(number).ask(get(&users).session(owner));
            answer.json()["users"].as_array().is_some_and(Vec::is_empty)
        });
    }
    nodes.ask(delete(&format!("/rooms/{}", scene.room)).session(owner)).expect(200);
    for session in crowd {
        nodes.ask(delete("/sessions/me").session(session)).expect(200);
    }
    is_empty(store);
}

fn is_empty(store: &Store) {
    let mut admin = store.admin();
    let mut left = Vec::new();
    let begun = Instant::now();
    // What is left of servers that were killed goes with their leases.
    while begun.elapsed() < PATIENCE {
        let keys = admin.must(&["KEYS", "*"]);
        let keys = keys.list().iter().map(|key| key.text());
        let is_fixed = |key: &String| FIXED.contains(&key.split("}:").last().expect("a part"));
        left = keys.filter(|key| !is_fixed(key)).collect();
        if left.is_empty() {
            return;
        }
        pause(50);
    }
    panic!("in the store is left: {left:?}");
}

/// Servers are killed, stopped for longer than their lease, cut off anywhere, sent more than they read, and
/// replaced by those of the next version.
fn servers_break(engine: Engine) {
    let store =
        Store::start(engine, &["--client-output-buffer-limit", "pubsub", "262144", "0", "0"]);
    let successor = Successor::new("chaos");
    let link = Link::to(&store.socket());
    let mut nodes = Nodes::start_at(3, Link::url(&[&link]), FLAGS);
    let (scene, owner) = scene(&nodes);
    let mut chance = Chance(SEED);
    let (crowd, written, seen) = thread::scope(|scope| {
        let _ending = Ending(&scene.is_over);
        let crowd = Crowd::enter(scope, &nodes, &scene, owner.clone());
        let sessions = crowd.sessions.clone();
        pause(500);
        let journal = &scene.journal;
        let stopped = chance.below(3) as usize;
        let others = [(stopped + 1) % 3, (stopped + 2) % 3];
        nodes.stop(stopped);
        let since = Instant::now();
        journal.note(&format!("server {stopped} was stopped"));
        pause(1000);
        nodes.kill(others[0]);
        journal.note(&format!("server {} was killed", others[0]));
        pause(500);
        nodes.restart(others[0]);
        pause(500);
        nodes.terminate(others[1]);
        nodes.succeed(others[1], &successor);
        journal.note(&format!("server {} was replaced by the next version", others[1]));
        pause(500);
        for _ in 0..12 {
            let (cuts, bytes) = (link.cuts(), 1 + chance.below(30_000));
            link.cut_after(bytes);
            wait_until("enough has passed", || link.cuts() > cuts);
            journal.note(&format!("a connection to the store was cut after {bytes} bytes"));
            pause(300);
        }
        // Until the store gives up sending the stopped server what it does not read. Servers ignore what
        // they do not know.
        let (mut admin, filler) = (store.admin(), "Z".repeat(16_000));
        wait_until("the store has cut off the stopped server", || {
            for channel in admin.must(&["PUBSUB", "SHARDCHANNELS"]).list() {
                for _ in 0..8 {
                    admin.must(&["SPUBLISH", &channel.text(), &filler]);
                }
            }
            let clients = admin.must(&["CLIENT", "LIST", "TYPE", "pubsub"]).text();
            clients.lines().filter(|line| line.contains("addr=")).count() < 3
        });
        journal.note("an output buffer was overrun");
        pause(15_000_u64.saturating_sub(since.elapsed().as_millis() as u64));
        nodes.resume(stopped);
        journal.note(&format!("server {stopped} went on"));
        pause(1500);
        nodes.kill(stopped);
        nodes.kill(others[0]);
        admin.must(&["FUNCTION", "FLUSH"]);
        journal.note("two servers were killed, and the functions deleted");
        pause(500);
        nodes.succeed(stopped, &successor);
        nodes.restart(others[0]);
        pause(500);
        let mark = scene.mark(&owner);
        let (written, seen) = crowd.end(&scene, vec![mark], true);
        (sessions, written, seen)
    });
    check(&scene, &written, &seen, |_| false);
    assert!(seen.iter().all(|reader| reader.runs.len() == 1), "the store has lost nothing");
    leave_nothing(&nodes, &store, &scene, &crowd, &owner);
}

/// The store, which has several partitions, is killed, stopped for twice a lease, loses its end, is replaced by its
/// replica, and begins again empty.
fn stores_break(engine: Engine) {
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut store = Store::start(engine, &options);
    let mut replica = Store::start(engine, &[]);
    let [link, spare, copy] = [&store, &replica, &store].map(|one| Link::to(&one.socket()));
    // While the primary is away, the servers ask the replica in vain.
    replica.admin().must(&["REPLICAOF", "127.0.0.1", &copy.port().to_string()]);
    let flags = [FLAGS, &["--cluster-partitions", "4"]].concat();
    let nodes = Nodes::start_at(3, Link::url(&[&link, &spare]), &flags);
    let (scene, owner) = scene(&nodes);
    let (written, seen, lost) = thread::scope(|scope| {
        let _ending = Ending(&scene.is_over);
        let crowd = Crowd::enter(scope, &nodes, &scene, owner.clone());
        let journal = &scene.journal;
        pause(500);
        store.restart();
        journal.note("the store was killed and restarted with its file");
        pause(1500);
        signal(&store, Signal::STOP);
        journal.note("the store was stopped");
        pause(20_000);
        signal(&store, Signal::CONT);
        journal.note("the store went on");
        pause(1000);
        let mut marks = vec![scene.mark(&owner)];
        let first = marks[0].id.clone();
        // So much has been written that what the store loses was said after this mark.
        let size = store.file_bytes();
        wait_until("20 kB have been written", || store.file_bytes() > size + 60_000);
        // All have read what is lost: else nobody could know.
        let gate = scene.gate.write().unwrap();
        marks.push(scene.mark(&owner));
        store.lose(20_000);
        journal.note("the store lost the last 20 kB of its file");
        let kept = Mutex::new(HashSet::new());
        let is_kept = |text: &str| kept.lock().unwrap().contains(text);
        let after = format!("/rooms/{}/messages?limit=1000&after={first}", scene.room);
        wait_until("the store is used again", || {
            let answer = nodes.ask(get(&after).session(&owner));
            if answer.status != 200 {
                return false;
            }
            let messages = answer.json();
            let texts = messages["messages"].as_array().expect("messages").iter();
            let texts = texts.filter_map(|one| one["message"].as_str()?.split(' ').next());
            kept.lock().unwrap().extend(texts.map(str::to_owned));
            true
        });
        let last_mark = marks[1].text.clone();
        assert!(!is_kept(&last_mark), "the store has lost something");
        let end_of_loss = marks[1].id.clone();
        drop(gate);
        pause(500);
        // A replica that has everything takes over.
        replica.await_primary();
        let gate = scene.gate.write().unwrap();
        marks.push(scene.mark(&owner));
        wait_until("the replica has everything", || store.is_replicated());
        store.end();
        journal.note("the store was killed");
        drop(gate);
        pause(300);
        replica.admin().must(&["REPLICAOF", "NO", "ONE"]);
        journal.note("its replica was promoted");
        marks.push(scene.mark(&owner));
        pause(500);
        let gate = scene.gate.write().unwrap();
        marks.push(scene.mark(&owner));
        replica.forget();
        replica.restart();
        journal.note("the store began again empty");
        drop(gate);
        let (written, seen) = crowd.end(&scene, marks, false);
        let kept = kept.into_inner().unwrap();
        let is_lost = move |one: &Answered| {
            one.id > first && one.id <= end_of_loss && !kept.contains(&one.text)
        };
        let lost: Vec<bool> = written.iter().map(is_lost).collect();
        (written, seen, lost)
    });
    let lost: HashSet<&str> =
        written.iter().zip(lost).filter_map(|(one, is)| is.then_some(&*one.text)).collect();
    assert!(lost.len() > 5, "{lost:?}");
    check(&scene, &written, &seen, |one| lost.contains(&*one.text));
    for (number, reader) in seen.iter().enumerate() {
        assert_eq!(reader.runs.len(), 2, "reader {number} was told once that something is lost");
        assert_eq!(reader.left, [""; 0], "nobody left, reader {number} has read");
    }
    nodes.ask(post("/rooms").session(&owner)).refused(401, "invalid_session");
    is_empty(&replica);
}

#[test]
fn every_message_that_was_answered_is_read_once_by_every_reader() {
    if !is_slow() {
        return eprintln!("skipped: it takes a minute, SLOW_TESTS=1 runs it");
    }
    let installed = Engine::installed();
    let (Some(one), Some(other)) = (installed.first().copied(), installed.last().copied()) else {
        return;
    };
    thread::scope(|scope| {
        let stories =
            [scope.spawn(move || servers_break(one)), scope.spawn(move || stores_break(other))];
        let [servers, stores] = stories.map(|story| story.join());
        assert!(servers.is_ok(), "the story of the servers fails");
        assert!(stores.is_ok(), "the story of the stores fails");
    });
}
