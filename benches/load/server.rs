//! The server that is measured: the release build, the yardstick, or one that already runs.
//!
//! Owns the child process from start to end. Must not know what is measured. The invariant: each
//! measurement has a new process on a free port and its own core, so that earlier measurements have
//! no effect on it.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::http::{self, Http};
use crate::machine::{self, Cores};
use crate::{Result, counts, yardstick};

/// The release build that `cargo bench` has made for this benchmark.
pub const BINARY: &str = env!("CARGO_BIN_EXE_disposable-chat");

/// Raises or switches off the limits that a load generator would reach.
const FLAGS: &[&str] = &[
    "--listen",
    "127.0.0.1:0",
    "--log",
    "off",
    "--message-rate",
    "0",
    "--session-rate",
    "0",
    "--room-rate",
    "0",
    "--max-sessions",
    "2000000",
    "--max-rooms",
    "1000000",
    "--max-memory",
    "2G",
];

/// Under callgrind a server is slow, so timers would do more work than on a real one.
const TIMELESS: &[&str] = &["--ping-interval", "1h", "--leave-grace", "1h"];

/// A server that accepts connections. Dropping it kills the process, if this program started it.
pub struct Server {
    pub address: SocketAddr,
    /// The address of `/metrics`, with the flag `--metrics-listen`.
    pub metrics: Option<SocketAddr>,
    pub process: Option<u32>,
    /// False for the yardstick, where the path of a WebSocket alone selects the room.
    has_rest: bool,
    running: Option<Running>,
}

/// The child process. Its stderr stays open, because its next log line would fail otherwise.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait()); // It may have ended.
    }
}

impl Server {
    /// The release build, without limits that a load generator would reach.
    pub fn release(binary: &Path, cores: Option<Cores>, flags: &[&str]) -> Result<Server> {
        let mut command = Command::new(binary);
        command.args(FLAGS).args(flags);
        remove_settings(&mut command);
        Server::start(command, cores, true, flags.contains(&"--metrics-listen"))
    }

    /// Whether it has its store, in a cluster.
    pub fn has_store(&self) -> Result<bool> {
        let health = Http::connect(self.address)?.ask(&http::get("/health", None))?;
        Ok(http::field(&health, "store")? == "up")
    }

    /// The release build in callgrind, which counts nothing but what [`Server::count`] runs.
    pub fn under_callgrind(binary: &Path) -> Result<Server> {
        let mut command = counts::callgrind();
        command.arg("--instr-atstart=no").arg(binary).args(FLAGS).args(TIMELESS);
        remove_settings(&mut command);
        Server::start(command, None, true, false)
    }

    /// This program in a second process, as the yardstick.
    pub fn yardstick(cores: Option<Cores>, coalesce: bool) -> Result<Server> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(if coalesce { yardstick::COALESCING } else { yardstick::PLAIN });
        Server::start(command, cores, false, false)
    }

    /// A server that already runs.
    pub fn running(url: &str, process: Option<u32>) -> Result<Server> {
        let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let address = host.to_socket_addrs()?.next().ok_or("an address is missing")?;
        Ok(Server { address, metrics: None, process, has_rest: true, running: None })
    }

    fn start(
        mut command: Command,
        cores: Option<Cores>,
        has_rest: bool,
        has_metrics: bool,
    ) -> Result<Server> {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let process = child.id();
        let stderr = child.stderr.take().ok_or("no pipe from stderr")?;
        let mut running = Running { child, stderr: BufReader::new(stderr) };
        if let Some(cores) = cores {
            cores.pin_server(process)?;
        }
        let address = running.next_address()?;
        let metrics = if has_metrics { Some(running.next_address()?) } else { None };
        let (process, running) = (Some(process), Some(running));
        Ok(Server { address, metrics, process, has_rest, running })
    }

    /// Stops the process until [`Server::resume`]. Data sent in between waits in its sockets.
    pub fn pause(&self) -> Result<()> {
        let process = self.child()?;
        kill_process(process, Signal::STOP)?;
        // The signal takes effect with a delay, in which the process could still read.
        waitpid(Some(process), WaitOptions::UNTRACED)?;
        Ok(())
    }

    pub fn resume(&self) -> Result<()> {
        Ok(kill_process(self.child()?, Signal::CONT)?)
    }

    /// Has callgrind count the instructions of `run`, in addition to those counted before.
    pub fn count(&self, run: impl FnOnce() -> Result<()>) -> Result<()> {
        let process = self.process.ok_or("the server's process isn't known")?;
        set_counting(process, true)?;
        run()?;
        set_counting(process, false)
    }

    /// Ends a process under callgrind and returns the rest of its stderr. The signal is one that the
    /// server does not handle, so that this needs no shutdown.
    pub fn stop(mut self) -> Result<String> {
        kill_process(self.child()?, Signal::ALARM)?;
        let mut output = String::new();
        let running = self.running.as_mut().ok_or("the server is not a child of this process")?;
        running.stderr.read_to_string(&mut output)?;
        Ok(output)
    }

    fn child(&self) -> Result<Pid> {
        let running = self.running.as_ref().ok_or("the server is not a child of this process")?;
        Ok(Pid::from_child(&running.child))
    }

    pub fn resident(&self) -> Result<u64> {
        machine::resident(self.process.ok_or("the server's process isn't known")?)
    }

    /// Creates rooms and sessions. Returns the WebSocket path of each member, room by room.
    pub fn member_paths(&self, rooms: usize, members: usize) -> Result<Vec<String>> {
        if !self.has_rest {
            let path = |member| format!("/ws/r{}", member / members);
            return Ok((0..rooms * members).map(path).collect());
        }
        let mut http = Http::connect(self.address)?;
        // Names of equal length put the text at the same place in every message.
        let sessions = self.sessions(&mut http, rooms * members)?;
        let owners = sessions.iter().step_by(members);
        let mut ids = Vec::new();
        http.ask_all(owners.map(|owner| http::post("/rooms", Some(owner), "")), |body| {
            ids.push(http::field(&body, "room_id")?);
            Ok(())
        })?;
        let of_room = sessions.chunks(members).zip(&ids);
        Ok(of_room
            .flat_map(|(some, room)| {
                some.iter().map(move |session| format!("/ws/{room}?session_id={session}"))
            })
            .collect())
    }

    /// Opens sessions and returns their ids.
    pub fn sessions(&self, http: &mut Http, count: usize) -> Result<Vec<String>> {
        let mut ids = Vec::with_capacity(count);
        let requests = (0..count).map(|number| http::open_session(&format!("member{number:06}")));
        http.ask_all(requests, |body| {
            ids.push(http::field(&body, "session_id")?);
            Ok(())
        })?;
        Ok(ids)
    }
}

/// Variables of this shell must not change the measured server.
fn remove_settings(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text == "PORT" || text.starts_with("CHAT_") {
            command.env_remove(&name);
        }
    }
}

impl Running {
    /// The address in the next line `listening on http://…`.
    fn next_address(&mut self) -> Result<SocketAddr> {
        let mut line = String::new();
        while self.stderr.read_line(&mut line)? > 0 {
            if let Some((_, address)) = line.trim().split_once("listening on http://") {
                return Ok(address.parse()?);
            }
            line.clear();
        }
        Err("the server has not reported its address".into())
    }
}

/// Has callgrind begin or end to count the instructions of a process, by valgrind's own client.
fn set_counting(process: u32, is_on: bool) -> Result<()> {
    let state = if is_on { "on" } else { "off" };
    let process = format!("--pid={process}");
    let done = Command::new("vgdb").args([&process, "instrumentation", state]).output()?;
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).into()),
    }
}
