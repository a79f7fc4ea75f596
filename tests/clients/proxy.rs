//! nginx, Caddy and HAProxy as processes, with configurations from pages of the guide.
//!
//! Owns the proxies and their files. A configuration is a code block of a page, in which only addresses
//! and timeouts are replaced.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::client::Http;
use crate::program::{Running, command, find, needed};
use crate::server::Address;

/// The idle timeout of the proxies, where the guide says a minute. The server pings more often.
const TIMEOUT: &str = "2s";

/// A running proxy and its files.
pub struct Front {
    address: Address,
    directory: PathBuf,
    _program: Running,
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Front {
    /// Runs `program` with the configuration in the code block for `language`. `configure` writes the complete
    /// configuration into a directory and adds the arguments to the command.
    fn start(
        program: &str,
        language: &str,
        recipe: &Recipe,
        configure: impl FnOnce(&mut Command, &Path, String),
    ) -> Option<Front> {
        let program = needed(program, find(&[program]).or_else(|| in_sbin(program)))?;
        let front = free_address();
        // A proxy that listens on all addresses does not start if another socket of the machine has the port.
        // Here one always has it, so that such a configuration never works by chance.
        let _other = cfg!(target_os = "linux")
            .then(|| TcpListener::bind((Ipv4Addr::LOCALHOST, front.port())));
        let directory = env::temp_dir().join(format!("front-{}-{}", front.ip(), front.port()));
        fs::create_dir_all(&directory).expect("a directory");
        let mut command = command(program);
        configure(&mut command, &directory, recipe.text(language, front));
        let program = Running::start(&mut command).until(|| TcpStream::connect(front).is_ok());
        Some(Front { address: Address::Tcp(front), directory, _program: program })
    }

    pub fn http(&self) -> Http {
        Http::connect(&self.address)
    }
}

/// A daemon in `/usr/sbin`, which is not in the `PATH` of every user.
fn in_sbin(program: &str) -> Option<PathBuf> {
    Some(Path::new("/usr/sbin").join(program)).filter(|file| file.is_file())
}

/// An address with a free port. Proxies do not report which port they listen on if that is 0.
///
/// Until the proxy has started, any other socket of the machine could get the same port. So on Linux, where all of
/// 127.0.0.0/8 is local, the address itself is one that no other test uses.
fn free_address() -> SocketAddr {
    static USED: AtomicU8 = AtomicU8::new(0);
    let ip = if cfg!(target_os = "linux") {
        let [.., high, low] = process::id().to_be_bytes();
        Ipv4Addr::new(127, 1 + USED.fetch_add(1, Ordering::Relaxed) % 250, high, low)
    } else {
        Ipv4Addr::LOCALHOST
    };
    let listener = TcpListener::bind((ip, 0)).expect("a port");
    listener.local_addr().expect("its address")
}

/// Where configurations are, and where the servers of the test are: by the addresses on the page.
pub struct Recipe<'a> {
    pub page: &'a str,
    pub backs: Vec<(&'a str, &'a str)>,
}

impl Recipe<'_> {
    /// The page's code block in `language`, with the test's addresses.
    fn text(&self, language: &str, front: SocketAddr) -> String {
        let (_, rest) = self.page.split_once(&format!("```{language}\n")).expect("a recipe");
        let (recipe, _) = rest.split_once("```").expect("its end");
        let fronts = [
            ("listen 80;", format!("listen {front};")),
            // One address is enough, and a machine may lack IPv6.
            ("    listen [::]:80;\n", String::new()),
            ("bind :80\n", format!("bind {front}\n")),
            // Caddy listens on all addresses unless it is told to `bind` one.
            ("chat.example {\n", format!("http://{front} {{\n    bind {}\n", front.ip())),
        ];
        let mut ours = recipe.replace("60s", TIMEOUT);
        for (theirs, back) in &self.backs {
            assert!(recipe.contains(theirs), "{recipe}");
            ours = ours.replace(theirs, back);
        }
        let replaced = |text: String, (theirs, ours): &(&str, String)| text.replace(theirs, ours);
        let ours_too = fronts.iter().fold(ours.clone(), replaced);
        assert_ne!(ours_too, ours, "the listener's address");
        ours_too
    }

    pub fn nginx(&self) -> Option<Front> {
        Front::start("nginx", "nginx", self, |command, directory, recipe| {
            let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let temporary: String =
                kinds.iter().map(|kind| format!("{kind}_temp_path {kind};\n")).collect();
            let all = format!(
                "user root; daemon off; master_process off; pid pid; error_log stderr;\n\
             events {{ }}\nhttp {{\naccess_log off;\n{temporary}{recipe}}}\n"
            );
            fs::write(directory.join("nginx.conf"), all).expect("a file");
            command.arg("-p").arg(directory).args(["-c", "nginx.conf", "-e", "stderr"]);
        })
    }

    pub fn caddy(&self) -> Option<Front> {
        Front::start("caddy", "caddy", self, |command, directory, recipe| {
            let all = format!("{{\nadmin off\n}}\n{recipe}");
            fs::write(directory.join("Caddyfile"), all).expect("a file");
            command
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(directory.join("Caddyfile"));
            for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
                command.env(variable, directory);
            }
        })
    }

    pub fn haproxy(&self, language: &str) -> Option<Front> {
        Front::start("haproxy", language, self, |command, directory, recipe| {
            let file = directory.join("haproxy.cfg");
            fs::write(&file, format!("global\nmaxconn 100\n{recipe}")).expect("a file");
            command.arg("-db").arg("-f").arg(file);
        })
    }
}
