//! The process under test: starts it, reads its stderr, signals it, measures it, and makes sure that it ends.
//!
//! A server never outlives its test: `Drop` kills it.
//!
//! With the feature `cluster` and the variable `CHAT_NODES`, several processes behind a balancer take the place
//! of one: see `tests/cluster/front.rs`.

#[cfg(feature = "cluster")]
#[path = "../cluster/front.rs"]
pub mod front;

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde_json::{Value, json};

use crate::client::{Answer, Http, Request, Stream, Ws, get, post, upgrade};

/// How long a test waits for anything that must happen.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long a server may take to start. One that continues from a large state file has to read it first.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Whether the long variants of tests run as well (`SLOW_TESTS=1`).
pub fn is_slow() -> bool {
    std::env::var_os("SLOW_TESTS").is_some()
}

/// Held by tests that open thousands of connections, which together would exceed the descriptor limit.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For tests that open so many under `SLOW_TESTS=1` only. Otherwise they run at once: a test that waits for another
/// takes the place of a third.
pub fn alone_if_slow() -> Option<MutexGuard<'static, ()>> {
    is_slow().then(alone)
}

/// The command that runs the server: the binary of this build, or the words of `CHAT`, separated by
/// spaces: another binary, perhaps after an emulator or `chroot DIR`.
fn program() -> Vec<String> {
    match std::env::var("CHAT") {
        Ok(named) => named.split_whitespace().map(str::to_owned).collect(),
        Err(_) => vec![env!("CARGO_BIN_EXE_disposable-chat").to_owned()],
    }
}

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// From a line `listening on …`. A client cannot connect to 0.0.0.0, so that becomes 127.0.0.1.
    fn from_line(line: &str) -> Option<Address> {
        let (_, shown) = line.split_once("listening on ")?;
        let shown = shown.trim();
        if let Some(path) = shown.strip_prefix("unix:") {
            return Some(Address::Unix(path.into()));
        }
        let (_, shown) = shown.split_once("://")?;
        let mut address: SocketAddr = shown.parse().ok()?;
        if address.ip().is_unspecified() {
            address.set_ip([127, 0, 0, 1].into());
        }
        Some(Address::Tcp(address))
    }

    /// The value of the field `Host`.
    pub fn host(&self) -> String {
        match self {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// The lines that the process has written to stderr, and whether it has closed it.
#[derive(Default)]
struct Stderr {
    lines: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    stderr: Arc<Stderr>,
    entrance: Entrance,
    #[cfg(feature = "cluster")]
    front: Option<front::Front>,
}

/// The server's command line, in an environment without the variables that the server reads.
pub fn command(flags: &[&str], env: &[(&str, &str)]) -> Command {
    let program = program();
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).args(flags);
    clean(&mut command, env);
    command
}

/// The server's command line without flags, with at most `descriptors` file descriptors.
pub fn limited(descriptors: u32) -> Command {
    after(&format!("ulimit -n {descriptors}"))
}

/// The server's command line without flags, after a shell's commands in the same process.
pub fn after(commands: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{commands}; exec \"$0\" \"$@\"")).args(program());
    clean(&mut shell, &[]);
    shell
}

fn clean(command: &mut Command, env: &[(&str, &str)]) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_read = |start: &&str| text.starts_with(*start);
        if ["PORT", "CHAT_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_"].iter().any(is_read) {
            command.env_remove(&name);
        }
    }
    command.envs(env.iter().copied()).stdin(Stdio::null());
}

impl Server {
    /// Starts a server that listens on a free port of 127.0.0.1.
    pub fn start(flags: &[&str]) -> Server {
        Server::start_with_env(flags, &[])
    }

    pub fn start_with_env(flags: &[&str], env: &[(&str, &str)]) -> Server {
        #[cfg(feature = "cluster")]
        if let Some(server) = front::start(flags, env) {
            return server;
        }
        let mut all = vec!["--listen", "127.0.0.1:0"];
        all.extend_from_slice(flags);
        Server::spawn_as_asked(command(&all, env), 1)
    }

    /// Starts a server with a metrics listener, whose address comes second.
    pub fn start_with_metrics(flags: &[&str]) -> Server {
        Server::spawn_with_metrics(command(&[], &[]), flags)
    }

    /// Runs `command` with a metrics listener, whose address comes second. If the flags have an admin
    /// listener, its address comes third.
    pub fn spawn_with_metrics(mut command: Command, flags: &[&str]) -> Server {
        command.args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]).args(flags);
        let listeners = if flags.contains(&"--admin-listen") { 3 } else { 2 };
        let mut server = Server::spawn(command, listeners);
        // The order of the two lines is not specified.
        if Http::connect(server.address()).ask(&get("/ping")).status != 200 {
            server.entrance.addresses.swap(0, 1);
        }
        server
    }

    /// Starts a server that may open at most `descriptors` file descriptors.
    pub fn start_with_descriptor_limit(descriptors: u32, flags: &[&str]) -> Server {
        let mut shell = limited(descriptors);
        shell.args(["--listen", "127.0.0.1:0"]).args(flags);
        Server::spawn(shell, 1)
    }

    /// Starts a server that may open at most `descriptors` file descriptors and has a metrics listener.
    #[allow(dead_code, reason = "not every suite calls it")]
    pub fn start_with_metrics_and_descriptor_limit(descriptors: u32, flags: &[&str]) -> Server {
        Server::spawn_with_metrics(limited(descriptors), flags)
    }

    /// Runs `command` and waits until stderr has reported `listeners` listeners.
    pub fn spawn(command: Command, listeners: usize) -> Server {
        #[cfg(feature = "cluster")]
        front::starts_alone();
        Server::spawn_as_asked(command, listeners)
    }

    fn spawn_as_asked(mut command: Command, listeners: usize) -> Server {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Server::watch(command.spawn().expect("the binary runs"), listeners)
    }

    /// Like `spawn`, for a process that runs already and whose stderr is piped.
    pub fn watch(child: Child, listeners: usize) -> Server {
        let watched = Server::try_watch(child, listeners);
        watched.unwrap_or_else(|lines| panic!("it does not listen; stderr: {lines:#?}"))
    }

    /// The same, for a process that may end without having listened; then its stderr.
    pub fn try_watch(mut child: Child, listeners: usize) -> Result<Server, Vec<String>> {
        let stderr = Arc::new(Stderr::default());
        let pipe = child.stderr.take().expect("stderr is piped");
        let writer = Arc::clone(&stderr);
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                writer.lines.lock().unwrap().0.push(line);
                writer.grown.notify_all();
            }
            writer.lines.lock().unwrap().1 = true;
            writer.grown.notify_all();
        });
        let mut server = Server {
            child,
            stderr,
            entrance: Entrance { addresses: Vec::new() },
            #[cfg(feature = "cluster")]
            front: None,
        };
        let listen = |lines: &[String]| {
            lines.iter().filter(|line| line.contains("listening on ")).count() >= listeners
        };
        if !server.has_in_stderr(listen) {
            return Err(server.stderr());
        }
        server.entrance.addresses =
            server.stderr().iter().filter_map(|l| Address::from_line(l)).collect();
        assert_eq!(server.addresses.len(), listeners, "{:?}", server.stderr());
        Ok(server)
    }

    // Its stderr.

    /// All lines so far. A poisoned lock is no error here: `Drop` calls this while a test panics, and a second
    /// panic would abort the whole process.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lines.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Waits until stderr has enough. False: it has ended before.
    fn has_in_stderr(&self, enough: impl Fn(&[String]) -> bool) -> bool {
        let deadline = Instant::now() + START_DEADLINE;
        let mut state = self.stderr.lines.lock().unwrap();
        while !enough(&state.0) && !state.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "stderr: {:#?}", state.0);
            state = self.stderr.grown.wait_timeout(state, left).unwrap().0;
        }
        enough(&state.0)
    }

    /// All lines, once the process has closed stderr.
    pub fn stderr_to_the_end(&self) -> Vec<String> {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.stderr.lines.lock().unwrap();
        while !state.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "stderr is still open");
            state = self.stderr.grown.wait_timeout(state, left).unwrap().0;
        }
        state.0.clone()
    }

    // Signals and exit.

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Runs `act` while the process is stopped (SIGSTOP): all that `act` sends waits for it in the kernel.
    #[cfg(target_os = "linux")]
    pub fn while_stopped<T>(&self, act: impl FnOnce() -> T) -> T {
        self.signal(Signal::STOP);
        wait_until("the process is stopped", || self.proc("status").contains("State:\tT"));
        let result = act();
        self.signal(Signal::CONT);
        result
    }

    /// Whether the process has ended.
    #[allow(dead_code, reason = "only `tests/wire/handover.rs` calls it")]
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_some()
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for(&mut self.child)
    }

    // Measurements (Linux).

    #[cfg(target_os = "linux")]
    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(path).expect("the process is there")
    }

    #[cfg(target_os = "linux")]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Open file descriptors.
    #[cfg(target_os = "linux")]
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(path).expect("the process is there").count()
    }

    /// Voluntary and involuntary context switches so far. Every wake-up counts as one.
    #[cfg(target_os = "linux")]
    pub fn context_switches(&self) -> u64 {
        let status = self.proc("status");
        let counts = status.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:"));
        counts.map(|(_, count)| count.trim().parse::<u64>().expect("a number")).sum()
    }

    /// Waits until half a second passes without a context switch.
    #[cfg(target_os = "linux")]
    pub fn wait_until_idle(&self) {
        wait_until("half a second passes without a context switch", || {
            let before = self.context_switches();
            thread::sleep(Duration::from_millis(500));
            self.context_switches() == before
        });
    }

    /// Resident memory, in KiB.
    #[cfg(target_os = "linux")]
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The peak of resident memory, in KiB.
    #[cfg(target_os = "linux")]
    pub fn resident_kib_max(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// The bound on resident memory under a ceiling, in bytes, as is the ceiling.
    ///
    /// The promised bound is the ceiling, a tenth of it, and 8 MiB, of which 3 MiB are for the program's text in a
    /// release build. A debug build has more text, and more again with TLS: what exceeds the 3 MiB is allowed on top.
    #[cfg(target_os = "linux")]
    pub fn resident_allowed(&self, ceiling: u64) -> u64 {
        let text = self.status_kib("RssFile:") * 1024;
        ceiling + ceiling / 10 + (8 << 20) + text.saturating_sub(3 << 20)
    }

    #[cfg(target_os = "linux")]
    fn status_kib(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// CPU time so far, in clock ticks of 10 ms.
    #[cfg(target_os = "linux")]
    pub fn cpu_ticks(&self) -> u64 {
        let stat = self.proc("stat");
        // The command's name may contain spaces; the fields after its closing parenthesis do not.
        let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |n: usize| fields[n - 3].parse::<u64>().expect("a number");
        ticks(14) + ticks(15)
    }
}

impl Deref for Server {
    type Target = Entrance;

    fn deref(&self) -> &Entrance {
        &self.entrance
    }
}

/// Where clients reach a server, or several behind a balancer, and what tests ask there.
pub struct Entrance {
    /// One per listener, in the order in which stderr reports them.
    pub addresses: Vec<Address>,
}

impl Entrance {
    /// The first listener.
    pub fn address(&self) -> &Address {
        &self.addresses[0]
    }

    pub fn host(&self) -> String {
        self.address().host()
    }

    // Requests. Each of these opens a connection of its own.

    /// A new HTTP connection.
    pub fn http(&self) -> Http {
        Http::connect(self.address())
    }

    /// A new HTTP connection with a small receive buffer, so that the server soon blocks if nothing is read.
    pub fn http_narrow(&self) -> Http {
        Http::over(Stream::connect_narrow(self.address()), self.address())
    }

    /// A new HTTP connection from an address of this machine.
    #[allow(dead_code, reason = "only `tests/cluster` has several addresses")]
    pub fn http_from(&self, source: IpAddr) -> Http {
        Http::over(Stream::connect_from(source, self.address()), self.address())
    }

    /// Sends one request on a connection of its own.
    pub fn ask(&self, request: Request) -> Answer {
        self.http().ask(&request)
    }

    /// Opens a session and returns its id.
    pub fn session(&self, name: &str) -> String {
        let answer = self.ask(post("/sessions").json(&json!({"username": name}))).expect(201);
        answer.string("session_id")
    }

    /// Creates a room and returns its id.
    pub fn room(&self, session: &str) -> String {
        let answer = self.ask(post("/rooms").session(session)).expect(201);
        answer.string("room_id")
    }

    /// Creates a room with a request body and returns its id.
    pub fn room_with(&self, session: &str, body: &Value) -> String {
        let answer = self.ask(post("/rooms").session(session).json(body)).expect(201);
        answer.string("room_id")
    }

    /// Joins a room by REST.
    pub fn join(&self, room: &str, session: &str) {
        self.ask(post(&format!("/rooms/{room}/join")).session(session)).expect(200);
    }

    /// Joins a room by REST, with a password.
    pub fn join_with(&self, room: &str, session: &str, password: &str) {
        let join = post(&format!("/rooms/{room}/join")).session(session);
        self.ask(join.json(&json!({"password": password}))).expect(200);
    }

    /// Posts a message by REST and returns it as every member receives it.
    pub fn say(&self, room: &str, session: &str, message: &str) -> Value {
        let say = post(&format!("/rooms/{room}/messages")).session(session);
        self.ask(say.json(&json!({"message": message}))).expect(201).json()
    }

    /// Opens a WebSocket. The caller reads all events, including the first.
    pub fn socket(&self, room: &str, session: &str) -> Ws {
        let mut ws = self.upgrade(upgrade(&format!("/ws/{room}?session_id={session}")));
        ws.session = session.to_owned();
        ws
    }

    /// Opens a WebSocket with further query parameters. The caller reads all events, including the first.
    pub fn socket_with(&self, room: &str, session: &str, query: &str) -> Ws {
        let mut ws = self.upgrade(upgrade(&format!("/ws/{room}?session_id={session}&{query}")));
        ws.session = session.to_owned();
        ws
    }

    /// Opens a WebSocket by an upgrade request that must succeed.
    pub fn upgrade(&self, request: Request) -> Ws {
        self.http().upgrade(&request)
    }

    /// Opens a session and enters a room with it. The session's own join has been read.
    pub fn enter(&self, room: &str, name: &str) -> Ws {
        let session = self.session(name);
        self.enter_as(room, name, &session)
    }

    /// Opens a session's first WebSocket in a room. The session's own join has been read.
    pub fn enter_as(&self, room: &str, name: &str, session: &str) -> Ws {
        let mut ws = self.socket(room, session);
        ws.user_id = ws.expect_join(name)["user_id"].as_str().expect("a user_id").to_owned();
        ws
    }

    /// A room created by ana, with ana and bob present. All joins have been read.
    pub fn room_of_two(&self) -> (String, Ws, Ws) {
        let session = self.session("ana");
        let room = self.room(&session);
        let mut ana = self.enter_as(&room, "ana", &session);
        let bob = self.enter(&room, "bob");
        ana.expect_join("bob");
        (room, ana, bob)
    }

    /// The text of the metrics, from the listener of `start_with_metrics`.
    pub fn metrics(&self) -> String {
        Http::connect(&self.addresses[1]).ask(&get("/metrics")).expect(200).text()
    }

    /// The value of one metric, which may have labels: `chat_connections{protocol="http"}`.
    pub fn metric(&self, name: &str) -> u64 {
        metric_in(&self.metrics(), name)
    }

    pub fn health(&self) -> Value {
        self.ask(get("/health")).expect(200).json()
    }

    /// The room's latest messages, at most 1000.
    pub fn messages(&self, room: &str, session: &str) -> Vec<Value> {
        let target = format!("/rooms/{room}/messages?limit=1000");
        let answer = self.ask(get(&target).session(session)).expect(200).json();
        answer["messages"].as_array().expect("messages").clone()
    }

    /// The number of users in the room, or `None` if there is no such room.
    pub fn user_count(&self, room: &str) -> Option<u64> {
        let answer = self.ask(get(&format!("/rooms/{room}")));
        if answer.status == 404 {
            return None;
        }
        Some(answer.expect(200).json()["user_count"].as_u64().expect("a count"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the server's stderr: {:#?}", self.stderr());
        }
    }
}

/// The result of a process that ends by itself.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the server with only `flags` until it ends by itself.
pub fn run(flags: &[&str], env: &[(&str, &str)]) -> Ended {
    let mut child = command(flags, env)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdout = child.stdout.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    let out = thread::spawn(move || read_all(&mut stdout));
    let err = thread::spawn(move || read_all(&mut stderr));
    let status = wait_for(&mut child);
    Ended { code: status.code(), stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

fn read_all(from: &mut impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).expect("text");
    text
}

/// Waits until the process ends. If it outlives the deadline, it is killed and the test fails.
fn wait_for(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the server did not end by itself");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The value of one metric in the text of the metrics.
pub fn metric_in(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

/// Raises the descriptor limit of the test process, which has the other end of every connection.
#[cfg(target_os = "linux")]
pub fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("a limit");
}

/// The path of a Unix socket that no other test uses. A file left there by an earlier run is removed.
pub fn socket_path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("wire-{}-{name}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// Polls `condition` until it holds. Fails after `DEADLINE`.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
