//! The page of the documents in a browser: as `/docs` and `/docs/`, and also behind a proxy that removes a prefix.

use std::fs;
use std::io::{BufRead, BufReader, Write, copy};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use crate::document::{Document, operations};
use crate::program::{command, find, needed, run};
use crate::server::{Address, Server};

/// The path of the server behind the proxy.
const PREFIX: &str = "/tools/chat";

// contract §11.2
#[test]
fn a_browser_shows_every_operation_and_close_code() {
    let Some(chromium) = needed("chromium", find(&["chromium", "chromium-browser"])) else {
        return;
    };
    let server = Server::start(&[]);
    let Address::Tcp(direct) = server.address().clone() else { panic!("it listens on TCP") };
    let proxy = mount(direct);
    let document = Document::openapi();
    let paths = document.0["paths"].as_object().expect("paths");
    for url in [
        format!("http://{direct}/docs"),
        format!("http://{direct}/docs/"),
        format!("http://{proxy}{PREFIX}/docs"),
        format!("http://{proxy}{PREFIX}/docs/"),
    ] {
        let dom = dump(&chromium, &url);
        let calls = dom.matches("<details><summary><b class=").count();
        assert_eq!(calls, paths.values().flat_map(operations).count(), "{url}: {dom}");
        assert!(dom.contains("<th>reconnect?</th>"), "{url}: the table of close codes");
        let base = url.trim_end_matches("/").trim_end_matches("docs");
        assert!(dom.contains(&format!("'{base}sessions'")), "{url}: the URL of a request");
    }
}

/// The page's HTML once its script has run.
fn dump(chromium: &Path, url: &str) -> String {
    let tmp = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let profile = tmp.join(format!("chromium-docs-{}", std::process::id()));
    fs::create_dir_all(&profile).expect("a directory for the profile");
    let mut browser = command(chromium);
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]);
    browser.args(["--no-first-run", "--disable-background-networking", "--disable-sync"]);
    browser.args(["--disable-component-update", "--no-proxy-server"]);
    browser.args(["--virtual-time-budget=10000", "--dump-dom"]);
    browser.arg(format!("--user-data-dir={}", profile.display())).arg(url).env("HOME", &profile);
    for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "CHROMIUM_FLAGS"] {
        browser.env_remove(name);
    }
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
