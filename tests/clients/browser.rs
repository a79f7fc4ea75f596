//! Chromium's own `fetch` and `WebSocket`, on a page of another origin. `page.html` goes the way; this file gives
//! it a place to live, a browser without a window, and an ear for how it went.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{PATIENT, PROGRAM_DEADLINE, command, find, needed, wait};
use crate::server::{Server, wait_until};

const PAGE: &str = include_str!("page.html");
const PAGE_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/page.html");

/// What the page reports when it has come to its end.
const ALL_HELD: &str = "all held";
/// What marks a line of its console among those that the browser writes.
const CONSOLE: &str = ":CONSOLE";
/// The last such line.
const DONE: &str = "the page is done";

fn chromium() -> Option<PathBuf> {
    needed("chromium", find(&["chromium", "chromium-browser", "google-chrome"]))
}

/// What we hear of a page.
enum Heard {
    /// It posted how it went.
    Report(String),
    /// The browser wrote a line to stderr, the page's console included.
    Line(String),
    /// The browser closed its stderr: it has ended.
    End,
}

/// Serves the page, and takes its report.
struct Host {
    address: SocketAddr,
}

impl Host {
    fn new(heard: &Sender<Heard>) -> Host {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let heard = heard.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let heard = heard.clone();
                // A browser opens connections on suspicion; one that says nothing must not hold up the others.
                thread::spawn(move || {
                    let _ = Host::serve(stream, &heard);
                });
            }
        });
        Host { address }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    fn serve(stream: TcpStream, heard: &Sender<Heard>) -> io::Result<()> {
        stream.set_read_timeout(Some(PROGRAM_DEADLINE))?;
        let mut reader = BufReader::new(&stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let body = if head.starts_with("POST /report ") {
            let mut lengths = head.lines().filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            let mut report = vec![0; lengths.next().unwrap_or(0)];
            reader.read_exact(&mut report)?;
            let _ = heard.send(Heard::Report(String::from_utf8_lossy(&report).into_owned()));
            ""
        } else {
            PAGE
        };
        let length = body.len();
        let fields = "Content-Type: text/html; charset=utf-8\r\nConnection: close";
        write!(&stream, "HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {length}\r\n\r\n{body}")
    }
}

/// A browser without a window, its profile its own. Dropping it ends it and removes the profile.
struct Browser {
    child: Child,
    profile: PathBuf,
}

impl Browser {
    fn open(program: PathBuf, name: &str, url: &str, heard: Sender<Heard>) -> Browser {
        let tmp = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let profile = tmp.join(format!("chromium-{name}-{}", std::process::id()));
        fs::create_dir_all(&profile).expect("a directory for the profile");
        let mut command = command(program);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]);
        command.args(["--no-first-run", "--disable-background-networking", "--disable-sync"]);
        command.args(["--disable-component-update", "--no-proxy-server"]);
        command.arg("--enable-logging=stderr");
        command.arg(format!("--user-data-dir={}", profile.display())).arg(url);
        // What it would put elsewhere goes with the profile.
        command.env("HOME", &profile).stdout(Stdio::null()).stderr(Stdio::piped());
        for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "CHROMIUM_FLAGS"] {
            command.env_remove(name);
        }
        let mut child = command.spawn().expect("chromium runs");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        thread::spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                let _ = heard.send(Heard::Line(String::from_utf8_lossy(&line).into_owned()));
            }
            let _ = heard.send(Heard::End);
        });
        Browser { child, profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It leaves a socket behind in the temporary directory, and says in its profile where.
        let socket = fs::read_link(self.profile.join("SingletonSocket"));
        // Asked first, so that its helpers end with it.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if wait(&mut self.child, Duration::from_secs(10)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if let Some(place) = socket.as_ref().ok().and_then(|socket| socket.parent()) {
            let name = place.file_name().map(|name| name.to_string_lossy());
            if name.is_some_and(|name| name.contains("org.chromium.")) {
                let _ = fs::remove_dir_all(place);
            }
        }
        // A helper may outlive it by a moment, and write.
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir_all(&self.profile).is_err() && self.profile.exists() {
            if Instant::now() > deadline {
                eprintln!("{} stays behind", self.profile.display());
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Collects what there is to hear until the page has reported and its console is complete.
#[track_caller]
fn listen(heard: &Receiver<Heard>) -> (String, Vec<String>) {
    let deadline = Instant::now() + PROGRAM_DEADLINE;
    let (mut report, mut lines): (Option<String>, Vec<String>) = (None, Vec::new());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match heard.recv_timeout(left) {
            Ok(Heard::Report(text)) => report = Some(text),
            Ok(Heard::Line(line)) => lines.push(line),
            Ok(Heard::End) => panic!("chromium ended by itself: {lines:#?}"),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                panic!("no word from the page: {report:?} {lines:#?}")
            }
        }
        let complete = lines.iter().any(|line| line.contains(CONSOLE) && line.contains(DONE));
        if report.is_some() && complete {
            lines.retain(|line| line.contains(CONSOLE) && !line.contains(DONE));
            return (report.unwrap_or_default(), lines);
        }
    }
}

/// Where the page lives.
enum Home {
    /// On another port than the server.
    Port,
    /// In a file: an origin that calls itself `null`.
    File,
}

/// Opens that part of the page in a browser; nothing but what is `expected` may be on its console.
#[track_caller]
fn check(
    part: &str,
    home: Home,
    servers: impl FnOnce(&str) -> Vec<(&'static str, Server)>,
    expected: &[&str],
) {
    let Some(chromium) = chromium() else { return };
    let (sender, heard) = mpsc::channel();
    let host = Host::new(&sender);
    let servers = servers(&host.origin());
    let (page, name) = match home {
        Home::Port => (format!("{}/page", host.origin()), part.to_owned()),
        Home::File => (format!("file://{PAGE_FILE}"), format!("{part}-file")),
    };
    let mut url = format!("{page}?part={part}&report={}/report", host.origin());
    for (name, server) in &servers {
        url.push_str(&format!("&{name}=http://{}", server.host()));
    }
    let browser = Browser::open(chromium, &name, &url, sender);
    let (report, console) = listen(&heard);
    assert_eq!(report, ALL_HELD, "{console:#?}");
    let known = |line: &&String| expected.iter().any(|text| line.contains(text));
    let unknown: Vec<_> = console.iter().filter(|line| !known(line)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    drop(browser);
    for (name, server) in &servers {
        // Only the connection that asks.
        wait_until(&format!("{name} is rid of the browser"), || {
            server.health()["connections"] == 1
        });
    }
}

fn open_to_all(_: &str) -> Vec<(&'static str, Server)> {
    vec![("api", Server::start(PATIENT))]
}

#[test]
fn a_page_on_another_port_goes_the_whole_way() {
    check("flow", Home::Port, open_to_all, &[]);
}

#[test]
fn a_page_in_a_file_goes_the_whole_way() {
    check("flow", Home::File, open_to_all, &[]);
}

// contract §1.24
#[test]
fn a_page_can_read_every_refusal() {
    let noise = ["Failed to load resource: the server responded with a status of 4"];
    check("refusals", Home::Port, open_to_all, &noise);
}

// contract §1.22
#[test]
fn a_page_is_let_in_by_its_origin() {
    let noise = ["has been blocked by CORS policy", "net::ERR_FAILED", "WebSocket connection to"];
    let servers = |origin: &str| {
        let start = |origin| Server::start(&[PATIENT, &["--cors-origin", origin]].concat());
        vec![("api", start(origin)), ("foreign", start("http://elsewhere.example"))]
    };
    check("origins", Home::Port, servers, &noise);
}
