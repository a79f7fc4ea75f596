//! The process under test: starts it, reads what it says, signals it, measures it, and makes sure it ends.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::{Answer, Http, Request, Ws, get, post, upgrade};

/// How long anything may take that must happen.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What runs the server: the binary of this build, or what `CHAT` names instead, words apart by
/// spaces: another binary, perhaps with an emulator or `chroot DIR` in front.
fn program() -> Vec<String> {
    match std::env::var("CHAT") {
        Ok(named) => named.split_whitespace().map(str::to_owned).collect(),
        Err(_) => vec![env!("CARGO_BIN_EXE_disposable-chat").to_owned()],
    }
}

/// Where a listener can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// From a line `listening on …`. Nobody connects to 0.0.0.0, so that becomes loopback.
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

    /// The value of `Host`.
    pub fn host(&self) -> String {
        match self {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// What the process has written to stderr so far, and whether it has closed it.
#[derive(Default)]
struct Stderr {
    lines: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    stderr: Arc<Stderr>,
    /// One per listener, in the order of the lines.
    pub addresses: Vec<Address>,
}

/// The server's command line with a clean environment: nothing of ours leaks in.
pub fn command(flags: &[&str], env: &[(&str, &str)]) -> Command {
    let program = program();
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).args(flags);
    clean(&mut command, env);
    command
}

/// The server's command line, to be completed, with at most so many file descriptors.
pub fn limited(descriptors: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")).args(program());
    clean(&mut shell, &[]);
    shell
}

fn clean(command: &mut Command, env: &[(&str, &str)]) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_ours = |start: &&str| text.starts_with(*start);
        if ["PORT", "CHAT_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_"].iter().any(is_ours) {
            command.env_remove(&name);
        }
    }
    command.envs(env.iter().copied()).stdin(Stdio::null());
}

impl Server {
    /// Listening on a free port of 127.0.0.1, with `flags` added.
    pub fn start(flags: &[&str]) -> Server {
        Server::start_with_env(flags, &[])
    }

    pub fn start_with_env(flags: &[&str], env: &[(&str, &str)]) -> Server {
        let mut all = vec!["--listen", "127.0.0.1:0"];
        all.extend_from_slice(flags);
        Server::spawn(command(&all, env), 1)
    }

    /// With metrics on a listener of their own, whose address comes second.
    pub fn start_with_metrics(flags: &[&str]) -> Server {
        Server::spawn_with_metrics(command(&[], &[]), flags)
    }

    fn spawn_with_metrics(mut command: Command, flags: &[&str]) -> Server {
        command.args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]).args(flags);
        let mut server = Server::spawn(command, 2);
        // Which of the lines comes first is nobody's promise.
        if Http::connect(server.address()).ask(&get("/ping")).status != 200 {
            server.addresses.swap(0, 1);
        }
        server
    }

    /// With at most `descriptors` file descriptors.
    pub fn start_with_descriptor_limit(descriptors: u32, flags: &[&str]) -> Server {
        let mut shell = limited(descriptors);
        shell.args(["--listen", "127.0.0.1:0"]).args(flags);
        Server::spawn(shell, 1)
    }

    /// The same, with metrics.
    #[allow(dead_code)] // Only `tests/attacks` is that poor.
    pub fn start_with_metrics_and_descriptor_limit(descriptors: u32, flags: &[&str]) -> Server {
        Server::spawn_with_metrics(limited(descriptors), flags)
    }

    /// Runs `command` and waits until `listeners` of them accept.
    pub fn spawn(mut command: Command, listeners: usize) -> Server {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Server::watch(command.spawn().expect("the binary runs"), listeners)
    }

    /// The same, of a process whose stderr is piped.
    pub fn watch(mut child: Child, listeners: usize) -> Server {
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
        let mut server = Server { child, stderr, addresses: Vec::new() };
        server.wait_for_stderr("it listens", |lines| {
            lines.iter().filter(|line| line.contains("listening on ")).count() >= listeners
        });
        server.addresses = server.stderr().iter().filter_map(|l| Address::from_line(l)).collect();
        assert_eq!(server.addresses.len(), listeners, "{:?}", server.stderr());
        server
    }

    /// The first listener.
    pub fn address(&self) -> &Address {
        &self.addresses[0]
    }

    pub fn host(&self) -> String {
        self.address().host()
    }

    // What it says.

    /// Works also after a wait that failed: a second panic would end all tests.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lines.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn wait_for_stderr(&self, what: &str, enough: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.stderr.lines.lock().unwrap();
        while !enough(&state.0) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!state.1 && !left.is_zero(), "waited until {what}; stderr: {:#?}", state.0);
            state = self.stderr.grown.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Everything on stderr of a process that has ended.
    pub fn stderr_to_the_end(&self) -> Vec<String> {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.stderr.lines.lock().unwrap();
        while !state.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "stderr is never closed");
            state = self.stderr.grown.wait_timeout(state, left).unwrap().0;
        }
        state.0.clone()
    }

    // Its life.

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for(&mut self.child)
    }

    // What it costs (Linux).

    #[cfg(target_os = "linux")]
    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(path).expect("the process is there")
    }

    /// For those who look into `/proc` themselves.
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

    /// Context switches so far, voluntary or not: every wake-up shows here.
    #[cfg(target_os = "linux")]
    pub fn context_switches(&self) -> u64 {
        let status = self.proc("status");
        let counts = status.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:"));
        counts.map(|(_, count)| count.trim().parse::<u64>().expect("a number")).sum()
    }

    /// Resident memory, in KiB.
    #[cfg(target_os = "linux")]
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The most that resident memory has been, in KiB.
    #[allow(dead_code)] // Only `tests/attacks` asks.
    #[cfg(target_os = "linux")]
    pub fn resident_kib_max(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    #[cfg(target_os = "linux")]
    fn status_kib(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("such a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// CPU time so far, in clock ticks of 10 ms.
    #[cfg(target_os = "linux")]
    pub fn cpu_ticks(&self) -> u64 {
        let stat = self.proc("stat");
        // The command's name may contain spaces; what follows its parenthesis does not.
        let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |n: usize| fields[n - 3].parse::<u64>().expect("a number");
        ticks(14) + ticks(15)
    }

    // Talking to it: each of these uses a connection of its own.

    /// A fresh HTTP connection.
    pub fn http(&self) -> Http {
        Http::connect(self.address())
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: Request) -> Answer {
        self.http().ask(&request)
    }

    /// A new session's id.
    pub fn session(&self, name: &str) -> String {
        let answer = self.ask(post("/sessions").json(&json!({"username": name}))).expect(201);
        answer.json()["session_id"].as_str().expect("an id").to_owned()
    }

    /// A new room's id.
    pub fn room(&self, session: &str) -> String {
        let answer = self.ask(post("/rooms").session(session)).expect(201);
        answer.json()["room_id"].as_str().expect("an id").to_owned()
    }

    /// A new room's id, made with that body.
    pub fn room_with(&self, session: &str, body: &Value) -> String {
        let answer = self.ask(post("/rooms").session(session).json(body)).expect(201);
        answer.json()["room_id"].as_str().expect("an id").to_owned()
    }

    /// Joins by REST.
    pub fn join(&self, room: &str, session: &str) {
        self.ask(post(&format!("/rooms/{room}/join")).session(session)).expect(200);
    }

    /// Joins by REST, with a password.
    pub fn join_with(&self, room: &str, session: &str, password: &str) {
        let join = post(&format!("/rooms/{room}/join")).session(session);
        self.ask(join.json(&json!({"password": password}))).expect(200);
    }

    /// A chat by REST, as everyone gets it.
    pub fn say(&self, room: &str, session: &str, message: &str) -> Value {
        let say = post(&format!("/rooms/{room}/messages")).session(session);
        self.ask(say.json(&json!({"message": message}))).expect(201).json()
    }

    /// A socket, upgraded; what comes first on it is the caller's to read.
    pub fn socket(&self, room: &str, session: &str) -> Ws {
        let mut ws = self.upgrade(upgrade(&format!("/ws/{room}?session_id={session}")));
        ws.session = session.to_owned();
        ws
    }

    /// A socket with more in its query; what comes first on it is the caller's to read.
    pub fn socket_with(&self, room: &str, session: &str, query: &str) -> Ws {
        let mut ws = self.upgrade(upgrade(&format!("/ws/{room}?session_id={session}&{query}")));
        ws.session = session.to_owned();
        ws
    }

    /// A socket by any upgrade request that must succeed.
    pub fn upgrade(&self, request: Request) -> Ws {
        self.http().upgrade(&request)
    }

    /// Somebody new in the room, whose own join has been read.
    pub fn enter(&self, room: &str, name: &str) -> Ws {
        let session = self.session(name);
        self.enter_as(room, name, &session)
    }

    /// A session's first socket in the room, whose own join has been read.
    pub fn enter_as(&self, room: &str, name: &str, session: &str) -> Ws {
        let mut ws = self.socket(room, session);
        ws.user_id = ws.expect_join(name)["user_id"].as_str().expect("a user_id").to_owned();
        ws
    }

    /// A room with ana, who created it, and bob in it; all joins have been read.
    pub fn room_of_two(&self) -> (String, Ws, Ws) {
        let session = self.session("ana");
        let room = self.room(&session);
        let mut ana = self.enter_as(&room, "ana", &session);
        let bob = self.enter(&room, "bob");
        ana.expect_join("bob");
        (room, ana, bob)
    }

    pub fn health(&self) -> Value {
        self.ask(get("/health")).expect(200).json()
    }

    /// The room's history, as far as one answer can tell.
    pub fn messages(&self, room: &str, session: &str) -> Vec<Value> {
        let target = format!("/rooms/{room}/messages?limit=1000");
        let answer = self.ask(get(&target).session(session)).expect(200).json();
        answer["messages"].as_array().expect("messages").clone()
    }

    /// Persons in the room, or `None` if there is no such room.
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

/// How a process that was not to keep running ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the server with `flags` alone until it ends by itself.
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

/// Waits for the process with a deadline; one that outlives it is killed, and the test fails.
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

/// Asks again and again until the answer is yes, with a deadline.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
