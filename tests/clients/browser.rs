//! Chromium's `fetch` and `WebSocket`, on a page of another origin than the server. The checks are in `page.html`;
//! this file serves the page, opens it in a headless browser and receives its report.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{PATIENT, PROGRAM_DEADLINE, find, headless, needed, wait};
use crate::server::{Server, wait_until};

const PAGE: &str = include_str!("page.html");
const PAGE_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/page.html");

/// The report of a page whose checks all hold.
const ALL_HELD: &str = "all held";
/// Marks the lines of the page's console among those that the browser logs.
const CONSOLE: &str = ":CONSOLE";
/// The last line of the page's console.
const DONE: &str = "the page is done";

fn chromium() -> Option<PathBuf> {
    needed("chromium", find(&["chromium", "chromium-browser", "google-chrome"]))
}

/// Output of a page and its browser.
enum Output {
    /// The page has posted its report.
    Report(String),
    /// The browser has logged a line to stderr, for example one of the page's console.
    Line(String),
    /// The browser has closed stderr, that is, ended.
    End,
}

/// An HTTP server that serves the page and receives its report.
struct Host {
    address: SocketAddr,
}

impl Host {
    fn new(output: &Sender<Output>) -> Host {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let output = output.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let output = output.clone();
                // A browser opens connections that it may never use, so each has a thread of its own.
                thread::spawn(move || {
                    let _ = Host::serve(stream, &output);
                });
            }
        });
        Host { address }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    fn serve(stream: TcpStream, output: &Sender<Output>) -> io::Result<()> {
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
            let _ = output.send(Output::Report(String::from_utf8_lossy(&report).into_owned()));
            ""
        } else {
            PAGE
        };
        let length = body.len();
        let fields = "Content-Type: text/html; charset=utf-8\r\nConnection: close";
        write!(&stream, "HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {length}\r\n\r\n{body}")
    }
}

/// A headless browser with a profile of its own. Dropping it ends it and removes the profile.
struct Browser {
    child: Child,
    profile: PathBuf,
}

impl Browser {
    fn open(program: PathBuf, name: &str, url: &str, output: Sender<Output>) -> Browser {
        let tmp = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let profile = tmp.join(format!("chromium-{name}-{}", std::process::id()));
        fs::create_dir_all(&profile).expect("a directory for the profile");
        let mut command = headless(program, &profile);
        command.args(["--enable-logging=stderr", url]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("chromium runs");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        thread::spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                let _ = output.send(Output::Line(String::from_utf8_lossy(&line).into_owned()));
            }
            let _ = output.send(Output::End);
        });
        Browser { child, profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It leaves a socket behind in the temporary directory, to which a link in its profile points.
        let socket = fs::read_link(self.profile.join("SingletonSocket"));
        // SIGTERM first, so that it ends its child processes as well.
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
        // A child process may live a moment longer and write files.
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir_all(&self.profile).is_err() && self.profile.exists() {
            if Instant::now() > deadline {
                eprintln!("cannot remove {}", self.profile.display());
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Waits for the page's report and for the last line of its console. Returns the report and all console lines but
/// the last.
#[track_caller]
fn wait_for_report(output: &Receiver<Output>) -> (String, Vec<String>) {
    let deadline = Instant::now() + PROGRAM_DEADLINE;
    let (mut report, mut lines): (Option<String>, Vec<String>) = (None, Vec::new());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match output.recv_timeout(left) {
            Ok(Output::Report(text)) => report = Some(text),
            Ok(Output::Line(line)) => lines.push(line),
            Ok(Output::End) => panic!("chromium ended by itself: {lines:#?}"),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                panic!("the page does not end: {report:?} {lines:#?}")
            }
        }
        let complete = lines.iter().any(|line| line.contains(CONSOLE) && line.contains(DONE));
        if report.is_some() && complete {
            lines.retain(|line| line.contains(CONSOLE) && !line.contains(DONE));
            return (report.unwrap_or_default(), lines);
        }
    }
}

/// How the browser gets the page.
enum Source {
    /// From another port than the server's.
    Port,
    /// From a file, whose origin is `null`.
    File,
}

/// Opens the page in a browser and asserts that `part` of its checks holds. Each line on its console must contain one
/// of the `expected` texts.
#[track_caller]
fn check(
    part: &str,
    source: Source,
    servers: impl FnOnce(&str) -> Vec<(&'static str, Server)>,
    expected: &[&str],
) {
    let Some(chromium) = chromium() else { return };
    let (sender, output) = mpsc::channel();
    let host = Host::new(&sender);
    let servers = servers(&host.origin());
    let (page, name) = match source {
        Source::Port => (format!("{}/page", host.origin()), part.to_owned()),
        Source::File => (format!("file://{PAGE_FILE}"), format!("{part}-file")),
    };
    let mut url = format!("{page}?part={part}&report={}/report", host.origin());
    for (name, server) in &servers {
        url.push_str(&format!("&{name}=http://{}", server.host()));
    }
    if let (Some((_, server)), "streams") = (servers.first(), part) {
        let server = server.host().parse().expect("an address");
        url.push_str(&format!("&relay=http://{}", relay(server)));
    }
    let browser = Browser::open(chromium, &name, &url, sender);
    let (report, console) = wait_for_report(&output);
    assert_eq!(report, ALL_HELD, "{console:#?}");
    let known = |line: &&String| expected.iter().any(|text| line.contains(text));
    let unknown: Vec<_> = console.iter().filter(|line| !known(line)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    drop(browser);
    for (name, server) in &servers {
        // The one that is left is the connection that asks.
        wait_until(&format!("the browser's connections to {name} end"), || {
            server.health()["connections"] == 1
        });
    }
}

fn open_to_all(_: &str) -> Vec<(&'static str, Server)> {
    // A page that goes away leaves after the grace.
    vec![("api", Server::start(&[PATIENT, &["--leave-grace", "1s"]].concat()))]
}

#[test]
fn a_page_of_another_origin_can_use_all_of_the_contract() {
    check("flow", Source::Port, open_to_all, &[]);
}

#[test]
fn a_page_in_a_file_can_use_all_of_the_contract() {
    check("flow", Source::File, open_to_all, &[]);
}

/// Passes bytes on between its clients and a server. A request for `/cut` resets all connections.
fn relay(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let open = open.clone();
            thread::spawn(move || -> io::Result<()> {
                let mut upstream = TcpStream::connect(server)?;
                open.lock().expect("no panic").extend([client.try_clone()?, upstream.try_clone()?]);
                let (mut back, mut to) = (upstream.try_clone()?, client.try_clone()?);
                thread::spawn(move || {
                    let _ = io::copy(&mut back, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
                let (mut client, mut buffer) = (client, [0; 4096]);
                loop {
                    let count = client.read(&mut buffer)?;
                    if count == 0 {
                        return upstream.shutdown(Shutdown::Both);
                    }
                    if buffer.starts_with(b"GET /cut ") {
                        for stream in open.lock().expect("no panic").drain(..) {
                            let _ = stream.shutdown(Shutdown::Both);
                        }
                        return Ok(());
                    }
                    upstream.write_all(&buffer[..count])?;
                }
            });
        }
    });
    address
}

// contract §14.2 §14.6 §14.9
#[test]
fn an_event_source_resumes_after_a_break_and_stops_when_it_is_told_to() {
    let servers = |_: &str| {
        let server = Server::start(&[PATIENT, &["--leave-grace", "1h"]].concat());
        vec![("api", server)]
    };
    let expected = ["net::ERR_INCOMPLETE_CHUNKED_ENCODING", "net::ERR_EMPTY_RESPONSE"];
    check("streams", Source::Port, servers, &expected);
}

// contract §1.24
#[test]
fn a_page_can_read_every_refusal() {
    let expected = ["Failed to load resource: the server responded with a status of 4"];
    check("refusals", Source::Port, open_to_all, &expected);
}

// contract §1.22
#[test]
fn a_page_of_an_origin_that_is_not_allowed_can_read_and_open_nothing() {
    let expected =
        ["has been blocked by CORS policy", "net::ERR_FAILED", "WebSocket connection to"];
    let servers = |origin: &str| {
        let start = |origin| Server::start(&[PATIENT, &["--cors-origin", origin]].concat());
        vec![("api", start(origin)), ("foreign", start("http://elsewhere.example"))]
    };
    check("origins", Source::Port, servers, &expected);
}
