//! A trial: a server, a crowd of innocent members, one attack, and what must be true during and after it.

use std::env;
use std::io::{self, Write};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, nice, setrlimit};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

use crate::client::{Http, Request, Stream, Ws, delete, get};
use crate::crowd::{Crowd, MEMBERS, ROOMS, Waits, is_healthy};
use crate::server::{Address, DEADLINE, Server, wait_until};
use crate::strangers;

/// Nothing ends by itself, and addresses may open what they like, unless an attack's own flags say so.
const FLAGS: &[&str] = &[
    "--trusted-proxy",
    "127.0.0.0/8",
    "--max-memory",
    "32M",
    "--header-timeout",
    "1h",
    "--body-timeout",
    "1h",
    "--idle-timeout",
    "1h",
    "--linger-timeout",
    "1h",
    "--ping-interval",
    "1h",
    "--leave-grace",
    "100ms",
    "--message-rate",
    "20",
    "--message-burst",
    "200",
    "--session-rate",
    "0",
    "--room-rate",
    "0",
    "--log",
    "warn",
];

const CEILING_KIB: u64 = 32 * 1024;

/// What one attack needs.
pub struct Attack<'a> {
    pub server: &'a Server,
    pub crowd: &'a Crowd,
    /// How many attacks there were before.
    wave: usize,
    end: Instant,
    /// The metrics as the attack began.
    metrics: String,
    sessions: Mutex<Vec<String>>,
    rooms: Mutex<Vec<(String, String)>>,
}

/// What the server has open.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    descriptors: usize,
    connections: u64,
    websockets: u64,
    sessions: u64,
    rooms: u64,
    members: u64,
    timers: u64,
}

/// Runs an attack against a server of its own, again and again where a report wants to know how long messages take.
pub fn under_attack(what: &str, flags: &[&str], attack: impl Fn(&Attack) + Sync) {
    let _alone = alone();
    raise_descriptor_limit();
    let server = Server::start_with_metrics(&[FLAGS, flags].concat());
    attack_beside_a_crowd(what, server, DEADLINE, reported(), attack);
}

/// The same, where addresses have rates: what they have opened is remembered for half a minute, and longer than a
/// quick test waits. Each of its repetitions needs addresses of its own.
pub fn under_attack_with_rates(what: &str, flags: &[&str], attack: impl Fn(&Attack) + Sync) {
    let _alone = alone();
    raise_descriptor_limit();
    let server = Server::start_with_metrics(&[FLAGS, flags, &["--session-rate", "2"]].concat());
    let patience = if is_slow() { Duration::from_secs(60) } else { Duration::ZERO };
    attack_beside_a_crowd(what, server, patience, reported(), attack);
}

/// The same, where the server has few descriptors.
pub fn under_attack_with_descriptors(
    what: &str,
    descriptors: u32,
    attack: impl Fn(&Attack) + Sync,
) {
    let _alone = alone();
    raise_descriptor_limit();
    let server = Server::start_with_metrics_and_descriptor_limit(descriptors, FLAGS);
    attack_beside_a_crowd(what, server, DEADLINE, reported(), attack);
}

/// The attack is repeated until it has taken `length`. After `patience` no timer of it may be left; if that is
/// zero, timers are not looked at.
fn attack_beside_a_crowd(
    what: &str,
    server: Server,
    patience: Duration,
    length: Duration,
    attack: impl Fn(&Attack) + Sync,
) {
    let empty_kib = server.resident_kib();
    keep_apart(&server);
    let crowd = Crowd::gather(&server);
    crowd.while_it_chats(chatting());
    let before = settled(&server);
    crowd.set_attacked(true);
    run(&server, &crowd, length, attack);
    crowd.set_attacked(false);
    crowd.while_it_chats(1);
    assert!(is_healthy(&server), "whoever comes now is served");
    let (waits, sockets) = crowd.finish(&server);
    wait_for_traces(&server, &before, patience);
    drop(sockets);
    assert_eq!(metric(&server, "chat_panics_total"), 0);
    let resident_kib = server.resident_kib_max();
    report(what, &waits, empty_kib, resident_kib);
    let allowed_kib = empty_kib + CEILING_KIB + CEILING_KIB / 4;
    assert!(resident_kib <= allowed_kib, "{resident_kib} KiB resident, {allowed_kib} allowed");
}

/// How long the process may take to end once it was told to.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// SIGTERM while an attack is at its height, which goes on until nobody listens any more. It is given some sockets
/// in a room.
pub fn until_terminated(what: &str, attack: impl FnOnce(&Address, Vec<Stream>) + Send) {
    let _alone = alone();
    raise_descriptor_limit();
    let mut server = Server::start_with_metrics(FLAGS);
    let empty_kib = server.resident_kib();
    keep_apart(&server);
    let crowd = Crowd::gather(&server);
    crowd.while_it_chats(chatting());
    crowd.set_attacked(true);
    let sockets = Attack::new(&server, &crowd, 0).sockets(4).into_iter().map(Ws::into_stream);
    let (sockets, address) = (sockets.collect(), server.address().clone());
    thread::scope(|scope| {
        scope.spawn(|| {
            be_nice();
            attack(&address, sockets);
        });
        crowd.while_it_chats(chatting());
        let resident_kib = server.resident_kib_max();
        let told = Instant::now();
        server.terminate();
        let waits = crowd.expect_shutdown();
        let status = server.wait();
        assert_eq!(status.code(), Some(0));
        assert!(told.elapsed() < SHUTDOWN_MAX, "{:?}", told.elapsed());
        report(what, &waits, empty_kib, resident_kib);
    });
}

/// The attack has the processor only when the server and the crowd leave it: its own work is not what is measured.
fn run(server: &Server, crowd: &Crowd, length: Duration, attack: impl Fn(&Attack) + Sync) {
    let end = Instant::now() + length;
    thread::scope(|scope| {
        let attackers = scope.spawn(|| {
            be_nice();
            for wave in 0.. {
                let wave = Attack::new(server, crowd, wave);
                attack(&wave);
                wave.forget();
                if Instant::now() >= end {
                    break;
                }
            }
            crowd.while_it_chats(scale(50, 2));
        });
        attackers.join().expect("an attack to its end");
    });
}

/// Rounds of chat that tell how it was: five seconds of them for one message in a hundred to mean something.
fn chatting() -> usize {
    if is_reporting() { 250 } else { scale(120, 5) }
}

/// How long an attack has to be for the same.
fn reported() -> Duration {
    if is_reporting() { Duration::from_secs(10) } else { Duration::ZERO }
}

/// For a report the server has a processor for itself, as if the others were far away: or a member
/// whom it wakes waits for its time slice, and what is measured is the scheduler.
fn keep_apart(server: &Server) {
    static ALL: OnceLock<Vec<usize>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let own = sched_getaffinity(None).expect("where this thread may run");
        (0..CpuSet::MAX_CPU).filter(|cpu| own.is_set(*cpu)).collect()
    });
    let [first, others @ ..] = &all[..] else { return };
    if !is_reporting() || others.is_empty() {
        return;
    }
    let set = |cpus: &[usize]| {
        let mut set = CpuSet::new();
        cpus.iter().for_each(|cpu| set.set(*cpu));
        set
    };
    let pid = Pid::from_raw(server.pid() as i32);
    sched_setaffinity(pid, &set(&[*first])).expect("the server's processor");
    sched_setaffinity(None, &set(others)).expect("this thread's, and of those it starts");
}

/// This thread, and those it starts. Not granted is not tragic.
fn be_nice() {
    let _ = nice(19);
    if is_reporting() {
        // The nicest still end their time slice, four milliseconds, before a member who wakes; the idle don't.
        let thread = gettid().as_raw_nonzero().to_string();
        let chrt = Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status();
        if !chrt.is_ok_and(|status| status.success()) {
            say("no chrt (util-linux): attackers take members' time");
        }
    }
}

impl Attack<'_> {
    fn new<'a>(server: &'a Server, crowd: &'a Crowd, wave: usize) -> Attack<'a> {
        let length = if is_slow() { Duration::from_secs(4) } else { Duration::from_millis(100) };
        let (sessions, rooms) = (Mutex::default(), Mutex::default());
        let (end, metrics) = (Instant::now() + length, exposition(server));
        Attack { server, crowd, wave, end, metrics, sessions, rooms }
    }

    /// An address that no attack before has used.
    pub fn fresh_address(&self, number: usize) -> String {
        strangers::address(self.wave * 50_000 + number)
    }

    /// False when an attack that could go on for ever has gone on long enough.
    pub fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }

    /// Returns when the members have been through that many more rounds.
    pub fn while_they_chat(&self, rounds: usize) {
        self.crowd.while_it_chats(rounds);
    }

    /// Asks once in every round of the members until the answer is yes, with a deadline.
    pub fn until(&self, what: &str, mut condition: impl FnMut(&Attack) -> bool) {
        let deadline = Instant::now() + 3 * DEADLINE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "attacked in vain until {what}");
            self.while_they_chat(1);
        }
    }

    pub fn metric(&self, name: &str) -> u64 {
        metric(self.server, name)
    }

    /// By how much one number of the metrics has grown since the attack began.
    pub fn grown(&self, name: &str) -> u64 {
        self.metric(name) - number(&self.metrics, name)
    }

    /// A new session, from the attacker's address of that number.
    pub fn session(&self, number: usize) -> String {
        let (name, address) = (format!("attacker {number}"), strangers::address(number));
        let id = strangers::session(self.server, &name, &address);
        self.remember_session(&id);
        id
    }

    /// It is ended when the attack is over.
    pub fn remember_session(&self, id: &str) {
        self.sessions.lock().unwrap().push(id.to_owned());
    }

    pub fn room(&self, session: &str) -> String {
        let id = strangers::room(self.server, session, &strangers::address(0));
        self.remember_room(&id, session);
        id
    }

    /// It is deleted when the attack is over.
    pub fn remember_room(&self, id: &str, owner: &str) {
        self.rooms.lock().unwrap().push((id.to_owned(), owner.to_owned()));
    }

    pub fn socket(&self, room: &str, session: &str, number: usize) -> Ws {
        strangers::socket(self.server, room, session, &strangers::address(number))
    }

    /// Sockets in a room of the attacker's own, whose joins have been read by none.
    pub fn sockets(&self, count: usize) -> Vec<Ws> {
        let mut all = Vec::new();
        while all.len() < count {
            let session = self.session(all.len());
            let room = self.room(&session);
            let some = 0..(count - all.len()).min(20);
            all.extend(some.map(|_| self.socket(&room, &session, all.len())).collect::<Vec<_>>());
        }
        all
    }

    fn forget(&self) {
        let rooms = std::mem::take(&mut *self.rooms.lock().unwrap()).into_iter();
        let rooms = rooms.map(|(id, owner)| delete(&format!("/rooms/{id}")).session(&owner));
        let sessions = std::mem::take(&mut *self.sessions.lock().unwrap()).into_iter();
        let sessions = sessions.map(|id| delete("/sessions/me").session(&id));
        let requests: Vec<Request> = rooms.chain(sessions).collect();
        for answer in strangers::ask_all(self.server, &requests) {
            answer.expect(200);
        }
    }
}

/// One number of the metrics.
pub fn metric(server: &Server, name: &str) -> u64 {
    number(&exposition(server), name)
}

fn exposition(server: &Server) -> String {
    Http::connect(&server.addresses[1]).ask(&get("/metrics")).expect(200).text()
}

fn number(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

fn traces(server: &Server) -> Traces {
    let mut http = Http::connect(&server.addresses[1]);
    let text = http.ask(&get("/metrics")).expect(200).text();
    Traces {
        descriptors: server.descriptors(),
        connections: number(&text, "chat_connections{protocol=\"http\"}"),
        websockets: number(&text, "chat_connections{protocol=\"websocket\"}"),
        sessions: number(&text, "chat_sessions"),
        rooms: number(&text, "chat_rooms"),
        members: number(&text, "chat_members"),
        timers: number(&text, "chat_timers"),
    }
}

/// The traces, once those who asked before have gone, and the addresses that opened sessions are forgotten.
fn settled(server: &Server) -> Traces {
    let members = (ROOMS * MEMBERS) as u64;
    let mut last = traces(server);
    wait_until("nobody is connected but the members", || {
        last = traces(server);
        (last.connections, last.websockets) == (1, members)
    });
    last
}

fn wait_for_traces(server: &Server, before: &Traces, patience: Duration) {
    // The members' own addresses may be forgotten meanwhile, and with them their timers.
    let ours = |server| match traces(server) {
        last if patience.is_zero() || last.timers <= before.timers => {
            Traces { timers: before.timers, ..last }
        }
        last => last,
    };
    let deadline = Instant::now() + patience.max(DEADLINE);
    let mut last = ours(server);
    while last != *before {
        assert!(Instant::now() < deadline, "left behind: {last:?}, before: {before:?}");
        thread::sleep(Duration::from_millis(10));
        last = ours(server);
    }
}

/// Under `SLOW_TESTS=1` all that was promised, else a little.
pub fn scale(full: usize, quick: usize) -> usize {
    if is_slow() { full } else { quick }
}

fn is_slow() -> bool {
    env::var_os("SLOW_TESTS").is_some()
}

fn is_reporting() -> bool {
    env::var_os("ATTACK_REPORT").is_some()
}

/// Whole attacks run one after the other, so that each has the machine for itself.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let needed = is_slow() || is_reporting();
    needed.then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// This process holds the other end of every connection.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// As many connections as wished, or as the machine's limit leaves. Says so if it is fewer.
pub fn connections(wished: usize) -> usize {
    const ELSE: usize = 200;
    let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize);
    let count = wished.min(limit.saturating_sub(ELSE));
    if count < wished {
        say(&format!("only {count} of {wished} connections: the descriptor limit is {limit}"));
    }
    count
}

fn report(what: &str, [calm, attacked]: &Waits, empty_kib: u64, resident_kib: u64) {
    if !is_reporting() {
        return;
    }
    static HEAD: Once = Once::new();
    HEAD.call_once(|| {
        say(&format!(
            "{:30}|{:>8}{:>8}{:>8} |{:>8}{:>8}{:>8} |{:>6} |{:>7}{:>7}",
            "attack", "p50", "p99", "calm ms", "p50", "p99", "max ms", "p99/", "MiB", "most"
        ));
    });
    let ms = |waits: &[Duration], part: f64| percentile(waits, part).as_secs_f64() * 1000.0;
    let ratio = ms(attacked, 0.99) / ms(calm, 0.99);
    let mib = |kib: u64| kib as f64 / 1024.0;
    say(&format!(
        "{what:30}|{:8.2}{:8.2}{:8.2} |{:8.2}{:8.2}{:8.2} |{ratio:6.2} |{:7.1}{:7.1}",
        ms(calm, 0.5),
        ms(calm, 0.99),
        ms(calm, 1.0),
        ms(attacked, 0.5),
        ms(attacked, 0.99),
        ms(attacked, 1.0),
        mib(empty_kib),
        mib(resident_kib),
    ));
}

fn percentile(waits: &[Duration], part: f64) -> Duration {
    let mut sorted = waits.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
}

/// Not println, which the test harness would hide.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
