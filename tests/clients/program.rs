//! Programs on this machine: finds them, runs them with a deadline, and makes sure that they end.

use std::env;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a program may run. Generous, since other tests run at the same time.
pub const PROGRAM_DEADLINE: Duration = Duration::from_secs(60);

/// Flags with which nothing times out during a test. So a client that breaks its connection, does not answer a probe,
/// or does not read a response makes its test fail.
pub const PATIENT: &[&str] =
    &["--leave-grace", "1h", "--probe-timeout", "1h", "--linger-timeout", "1h"];

/// The first of these programs that is in `PATH`.
pub fn find(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let places = || env::split_paths(&path);
    names.iter().find_map(|name| places().map(|place| place.join(name)).find(|file| file.is_file()))
}

/// Passes on what a test needs. If it is missing, reports that the test is skipped, or fails with `REQUIRE_ALL=1`.
pub fn needed<T>(what: &str, found: Option<T>) -> Option<T> {
    if found.is_none() {
        let test = thread::current().name().unwrap_or("a test").to_owned();
        let required = env::var_os("REQUIRE_ALL").is_some_and(|value| value == "1");
        assert!(!required, "{test} needs {what}");
        // The test harness would hide a line from `eprintln!`.
        let _ = writeln!(io::stderr(), "skipped: needs {what} ({test})");
    }
    found
}

/// `program`, in an environment without settings for proxies and Python.
pub fn command(program: impl Into<PathBuf>) -> Command {
    let mut command = Command::new(program.into());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy().to_ascii_lowercase();
        if text.ends_with("_proxy") || (text.starts_with("python") && text != "pythonpath") {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A headless Chromium that writes all its files into `profile`.
pub fn headless(chromium: PathBuf, profile: &Path) -> Command {
    let mut command = command(chromium);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]);
    command.args(["--no-first-run", "--disable-background-networking", "--disable-sync"]);
    command.args(["--disable-component-update", "--no-proxy-server"]);
    command.arg(format!("--user-data-dir={}", profile.display())).env("HOME", profile);
    for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "CHROMIUM_FLAGS"] {
        command.env_remove(name);
    }
    command
}

/// The result of a program.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ended {
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts the exit code 0.
    #[track_caller]
    pub fn expect_success(self) -> Ended {
        let (stdout, stderr) = (self.stdout(), &self.stderr);
        assert!(self.status.success(), "{}\n{stdout}\n{stderr}", self.status);
        self
    }
}

/// A running program. Threads read its output. Dropping it kills it.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let stdout = read_all(child.stdout.take().expect("piped"));
        let stderr = read_all(child.stderr.take().expect("piped"));
        Running { child, stdout: Some(stdout), stderr: Some(stderr) }
    }

    /// Waits until `ready`. Panics with the output if the program ends before, or is not ready within
    /// `PROGRAM_DEADLINE`.
    #[track_caller]
    #[allow(dead_code, reason = "only for programs that tests connect to")]
    pub fn until(mut self, ready: impl Fn() -> bool) -> Running {
        let deadline = Instant::now() + PROGRAM_DEADLINE;
        while !ready() {
            let has_ended = self.child.try_wait().expect("our own child").is_some();
            if has_ended || Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("not ready: {:?}", self.finish());
            }
            thread::sleep(Duration::from_millis(10));
        }
        self
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn finish(mut self) -> Ended {
        let status = wait(&mut self.child, PROGRAM_DEADLINE);
        if status.is_none() {
            let _ = self.child.kill();
        }
        let text = |output: &mut Option<JoinHandle<Vec<u8>>>| {
            output.take().expect("taken once").join().expect("it is read")
        };
        let (stdout, stderr) = (text(&mut self.stdout), text(&mut self.stderr));
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let Some(status) = status else {
            panic!("still running: {}\n{stderr}", String::from_utf8_lossy(&stdout));
        };
        Ended { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Ended {
    Running::start(command).finish()
}

/// Waits for a program. `None` if it outlives the deadline.
pub fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + deadline;
    loop {
        let status = child.try_wait().expect("our own child");
        if status.is_some() || Instant::now() > deadline {
            return status;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}
