//! The store of a measured cluster: Redis or Valkey.
//!
//! Owns the process from start to end, and what it reports about itself. Must not know what is stored.
//! The invariant: it has a folder and a Unix socket of its own, so that no other store is touched.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use std::{env, fs, process, thread};

use crate::Result;
use crate::clients::PATIENCE;
use crate::machine::Cores;

/// What `src/guide/cluster.md` recommends, without persistence.
const SETTINGS: &[&str] = &[
    "--port",
    "0",
    "--maxmemory-policy",
    "noeviction",
    "--save",
    "",
    "--client-output-buffer-limit",
    "pubsub 128mb 64mb 60",
    "--stream-node-max-bytes",
    "1024",
    "--slowlog-log-slower-than",
    "-1",
];

/// A store that accepts connections. Dropping it kills the process.
pub struct Store {
    program: PathBuf,
    folder: PathBuf,
    cores: Option<Cores>,
    is_lasting: bool,
    child: Child,
}

impl Store {
    /// Starts the program, or the first that is found. `is_lasting`: it keeps everything over a restart.
    pub fn start(program: Option<&Path>, cores: Option<Cores>, is_lasting: bool) -> Result<Store> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let program = match program {
            Some(program) => program.to_owned(),
            None => find().ok_or("--cluster needs redis-server or valkey-server")?,
        };
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("dc-bench-{}-{count}", process::id()));
        fs::create_dir_all(&folder)?;
        let child = spawn(&program, &folder, cores, is_lasting)?;
        let store = Store { program, folder, cores, is_lasting, child };
        store.wait()?;
        Ok(store)
    }

    /// Kills it and starts it again. Returns when it answers.
    pub fn restart(&mut self) -> Result<()> {
        self.end();
        self.child = spawn(&self.program, &self.folder, self.cores, self.is_lasting)?;
        self.wait()
    }

    /// For `--cluster`.
    pub fn url(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// The commands executed so far: those that clients have sent, and all, with those of functions.
    pub fn commands(&self) -> Result<(u64, u64)> {
        let (mut sent, mut all) = (0, 0);
        for line in self.ask("INFO commandstats")?.lines() {
            let Some((name, figures)) = line.split_once(":calls=") else { continue };
            let calls: u64 = figures.split(',').next().ok_or("no number of calls")?.parse()?;
            let name = name.trim_start_matches("cmdstat_");
            all += calls;
            if matches!(name, "fcall" | "fcall_ro" | "info" | "hello" | "role" | "ping") {
                sent += calls;
            }
        }
        Ok((sent, all))
    }

    /// The reply to a command without arguments that contain spaces.
    pub fn ask(&self, command: &str) -> Result<String> {
        let stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        (&stream).write_all(format!("{command}\r\n").as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some(length) = line.strip_prefix('$') else { return Ok(line) };
        let mut text = vec![0; length.trim().parse()?];
        reader.read_exact(&mut text)?;
        Ok(String::from_utf8(text)?)
    }

    /// Waits until it has loaded what it keeps.
    fn wait(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !self.ask("PING").is_ok_and(|reply| reply.starts_with("+PONG")) {
            if Instant::now() > end {
                return Err(format!("{} does not answer", self.program.display()).into());
            }
            thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(())
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    fn end(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait()); // It may have ended.
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.end();
        let _removed = fs::remove_dir_all(&self.folder);
    }
}

fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = |name: &str| {
        env::split_paths(&path).map(|place| place.join(name)).find(|file| file.is_file())
    };
    let named = || env::var_os("VALKEY_SERVER").map(PathBuf::from);
    in_path("redis-server").or_else(|| in_path("valkey-server")).or_else(named)
}

fn spawn(program: &Path, folder: &Path, cores: Option<Cores>, is_lasting: bool) -> Result<Child> {
    let mut command = Command::new(program);
    command.args(SETTINGS).arg("--dir").arg(folder).arg("--unixsocket").arg(folder.join("s"));
    command.args(["--appendonly", if is_lasting { "yes" } else { "no" }]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    if let Some(cores) = cores {
        cores.pin_server(child.id())?;
    }
    Ok(child)
}
