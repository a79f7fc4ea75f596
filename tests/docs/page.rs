//! The page of the documents in a browser: as `/docs` and `/docs/`, and also behind a proxy that removes a prefix.

use std::fs;
use std::io::{BufRead, BufReader, Write, copy};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::document::{Document, operations};
use crate::program::{find, headless, needed, run};
use crate::server::{Address, Server};

/// The path of the server behind the proxy.
const PREFIX: &str = "/tools/chat";

/// Opens the page in a browser at `path`, below a prefix if `is_mounted`. Asserts that it shows every operation and the
/// table of close codes, and that the URLs of requests are those of the server that sent the page.
#[track_caller]
fn expect_page(path: &str, is_mounted: bool) {
    let Some(chromium) = needed("chromium", find(&["chromium", "chromium-browser"])) else {
        return;
    };
    let server = Server::start(&[]);
    let Address::Tcp(direct) = server.address().clone() else { panic!("it listens on TCP") };
    let base = match is_mounted {
        false => format!("http://{direct}"),
        true => format!("http://{}{PREFIX}", mount(direct)),
    };
    let dom = dump(chromium, &format!("{base}{path}"));
    let document = Document::openapi();
    let paths = document.0["paths"].as_object().expect("paths");
    let shown = dom.matches("<details><summary><b class=").count();
    assert_eq!(shown, paths.values().flat_map(operations).count(), "{dom}");
    assert!(dom.contains("<th>reconnect?</th>"), "the table of close codes: {dom}");
    assert!(dom.contains(&format!("'{base}/sessions'")), "the URL of a request: {dom}");
}

// contract §11.2
#[test]
fn a_browser_shows_the_documents() {
    expect_page("/docs", false);
}

// contract §11.2
#[test]
fn a_browser_shows_the_documents_with_a_trailing_slash() {
    expect_page("/docs/", false);
}

#[test]
fn a_browser_shows_the_documents_behind_a_prefix() {
    expect_page("/docs", true);
}

#[test]
fn a_browser_shows_the_documents_behind_a_prefix_with_a_trailing_slash() {
    expect_page("/docs/", true);
}

/// The page's HTML once its script has run.
fn dump(chromium: PathBuf, url: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let tmp = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let profile = tmp.join(format!("chromium-docs-{}-{count}", std::process::id()));
    fs::create_dir_all(&profile).expect("a directory for the profile");
    let mut browser = headless(chromium, &profile);
    browser.args(["--virtual-time-budget=10000", "--dump-dom", url]);
    let ended = run(&mut browser).expect_success();
    let _ = fs::remove_dir_all(&profile);
    ended.stdout()
}

/// Starts a proxy that removes [`PREFIX`]. Each connection carries one request.
fn mount(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || forward(stream, server));
        }
    });
    address
}

fn forward(mut stream: TcpStream, server: SocketAddr) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let (method, rest) = head.split_once(' ').unwrap_or_default();
    let rest = rest.strip_prefix(PREFIX).unwrap_or("/beyond HTTP/1.1\r\nHost: a\r\n\r\n");
    let rest = rest.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
    // A second `Connection` adds to the browser's keep-alive; close wins (RFC 9112 §9.6).
    let mut upstream = TcpStream::connect(server)?;
    write!(upstream, "{method} {rest}")?;
    copy(&mut upstream, &mut stream)?;
    stream.shutdown(Shutdown::Both)
}
