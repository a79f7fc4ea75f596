//! systemd: socket activation (`LISTEN_FDS`), readiness and watchdog (`NOTIFY_SOCKET`). The tests play its part.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Http, get, uninterrupted};
use crate::server::{Address, DEADLINE, Server, command, socket_path, wait_until};

// Socket activation.

/// The server's command line with these sockets as its descriptors 3 and 4 (sd_listen_fds(3)). A shell moves them
/// there and replaces itself by the server, so that `LISTEN_PID` is right.
pub fn activated(
    first: OwnedFd,
    second: Option<OwnedFd>,
    flags: &[&str],
    env: &[(&str, &OsStr)],
) -> Command {
    let server = command(flags, &[]);
    let count = if second.is_some() { 2 } else { 1 };
    let script = "export LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(server.get_program()).args(server.get_args());
    for (name, value) in server.get_envs() {
        if value.is_none() {
            shell.env_remove(name);
        }
    }
    shell.env("LISTEN_FDS", count.to_string()).envs(env.iter().copied());
    shell.stdin(first).stdout(second.map_or_else(Stdio::null, Stdio::from)).stderr(Stdio::piped());
    shell
}

pub fn start(mut command: Command, listeners: usize) -> Server {
    Server::watch(command.spawn().expect("the binary runs"), listeners)
}

/// A listener on a free port, and its address.
fn tcp() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    (listener, Address::Tcp(address))
}

/// Shuts the server down and returns how many listeners it has reported.
fn listeners_to_the_end(mut server: Server) -> usize {
    server.terminate();
    assert!(server.wait().success());
    let lines = server.stderr_to_the_end();
    lines.iter().filter(|line| line.contains("listening on ")).count()
}

#[test]
fn a_passed_socket_replaces_the_default_listener() {
    let (listener, address) = tcp();
    let server = start(activated(listener.into(), None, &[], &[]), 1);
    assert_eq!(server.addresses, [address]);
    let (_, mut ana, mut bob) = server.room_of_two();
    ana.chat("over a passed socket");
    bob.expect_chat("ana", "over a passed socket");
    drop((ana, bob));
    assert_eq!(listeners_to_the_end(server), 1);
}

#[test]
fn listeners_from_flags_are_added_to_passed_sockets() {
    for (flags, env) in [
        (&["--listen", "127.0.0.1:0"][..], &[][..]),
        (&[], &[("CHAT_LISTEN", OsStr::new("127.0.0.1:0"))]),
        (&[], &[("PORT", OsStr::new("0"))]),
    ] {
        let (listener, address) = tcp();
        let server = start(activated(listener.into(), None, flags, env), 2);
        assert!(server.addresses.contains(&address));
        for address in &server.addresses {
            Http::connect(address).ask(&get("/health")).expect(200);
        }
        assert_eq!(listeners_to_the_end(server), 2);
    }
}

#[test]
fn a_passed_socket_named_metrics_serves_metrics() {
    let ((chat, chat_address), (metrics, metrics_address)) = (tcp(), tcp());
    let names = [("LISTEN_FDNAMES", OsStr::new("disposable-chat.socket:metrics"))];
    let server = start(activated(chat.into(), Some(metrics.into()), &[], &names), 2);
    Http::connect(&chat_address).ask(&get("/health")).expect(200);
    Http::connect(&chat_address).ask(&get("/metrics")).expect(404);
    Http::connect(&metrics_address).ask(&get("/metrics")).expect(200);
    Http::connect(&metrics_address).ask(&get("/health")).expect(404);
    assert_eq!(listeners_to_the_end(server), 2);
}

#[test]
fn the_file_of_a_passed_unix_socket_stays() {
    let path = socket_path("handed");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = start(activated(listener.into(), None, &[], &[]), 1);
    assert_eq!(server.addresses, [Address::Unix(path.clone())]);
    server.ask(get("/health")).expect(200);
    assert_eq!(listeners_to_the_end(server), 1);
    assert!(path.exists(), "removed by the server");
    std::fs::remove_file(&path).expect("the socket");
}

#[test]
fn connections_between_two_servers_wait_in_the_backlog() {
    let (listener, address) = tcp();
    let Address::Tcp(at) = address else { unreachable!("it is TCP") };
    for _ in 0..3 {
        let next = listener.try_clone().expect("a second handle");
        // No server runs yet.
        let mut waiting = TcpStream::connect(at).expect("the kernel accepts");
        waiting.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        waiting.write_all(b"GET /ping HTTP/1.0\r\n\r\n").expect("the request is queued");
        let server = start(activated(next.into(), None, &[], &[]), 1);
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop(waiting); // The server waits until its peers have closed.
        assert_eq!(listeners_to_the_end(server), 1);
    }
}

/// Asserts that the server starts and serves, with a warning about `variable`.
fn starts_with_a_warning(command: Command, variable: &str) {
    let mut server = start(command, 1);
    server.ask(get("/health")).expect(200);
    server.terminate();
    assert!(server.wait().success());
    let lines = server.stderr_to_the_end();
    let warned = |line: &String| line.starts_with("warn: ") && line.contains(variable);
    assert!(lines.iter().any(warned), "{variable}: {lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("listening on ")).count(), 1);
}

#[test]
fn a_passed_descriptor_that_is_no_listener_is_ignored_with_a_warning() {
    let flags = ["--listen", "127.0.0.1:0"];
    let file = File::open("/dev/null").expect("a file");
    starts_with_a_warning(activated(file.into(), None, &flags, &[]), "LISTEN_FDS");
    let (listener, address) = tcp();
    let Address::Tcp(at) = address else { unreachable!("it is TCP") };
    let connected = TcpStream::connect(at).expect("the kernel accepts");
    starts_with_a_warning(activated(connected.into(), None, &flags, &[]), "LISTEN_FDS");
    drop(listener);
    let datagrams = UnixDatagram::unbound().expect("a socket");
    starts_with_a_warning(activated(datagrams.into(), None, &flags, &[]), "LISTEN_FDS");
}

#[test]
fn bad_variables_for_sockets_cause_a_warning_and_no_failure() {
    let garbage = OsStr::from_bytes(b"\xff\n");
    let words = ["x", "-1", "+1", "1.5", "4294967296", "18446744073709551616", "65"];
    let words = words.map(OsString::from).into_iter().chain([garbage.to_owned()]);
    let flags = ["--listen", "127.0.0.1:0"];
    for word in words {
        let (listener, _) = tcp();
        let env = [("LISTEN_FDS", word.as_os_str())];
        starts_with_a_warning(activated(listener.into(), None, &flags, &env), "LISTEN_FDS");
    }
    // More than there are: 4 is open but no socket, and 5 is not open.
    let (listener, _) = tcp();
    let env = [("LISTEN_FDS", OsStr::new("3"))];
    starts_with_a_warning(activated(listener.into(), None, &flags, &env), "LISTEN_FDS");
    // The socket is usable, but the number of names is wrong, or the name is no UTF-8.
    for names in [OsStr::new("a:b:c"), garbage] {
        let (listener, address) = tcp();
        let env = [("LISTEN_FDNAMES", names)];
        let server = start(activated(listener.into(), None, &[], &env), 1);
        assert_eq!(server.addresses, [address]);
        server.ask(get("/health")).expect(200);
        assert_eq!(listeners_to_the_end(server), 1);
    }
    // No socket was passed.
    let mut bare = command(&flags, &[("LISTEN_FDS", "1"), ("LISTEN_PID", "x")]);
    bare.stdout(Stdio::null()).stderr(Stdio::piped());
    starts_with_a_warning(bare, "LISTEN_PID");
}

#[test]
fn variables_for_another_process_are_ignored() {
    let env = [("LISTEN_FDS", "1"), ("LISTEN_PID", "1"), ("LISTEN_FDNAMES", "metrics")];
    let server = Server::start_with_env(&[], &env);
    server.ask(get("/health")).expect(200);
    assert!(
        !server.stderr().iter().any(|line| line.starts_with("warn: ")),
        "{:?}",
        server.stderr()
    );
}

// Readiness and watchdog.

/// The socket on which a supervisor receives notifications.
struct Supervisor {
    socket: UnixDatagram,
    /// The value of `NOTIFY_SOCKET`.
    name: String,
}

impl Supervisor {
    fn at_path(name: &str) -> Supervisor {
        let path = socket_path(name);
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Supervisor::new(socket, path.to_str().expect("UTF-8").to_owned())
    }

    fn in_no_file_system(name: &str) -> Supervisor {
        let name = format!("wire-{}-{name}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        Supervisor::new(UnixDatagram::bind_addr(&address).expect("a socket"), format!("@{name}"))
    }

    fn new(socket: UnixDatagram, name: String) -> Supervisor {
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        Supervisor { socket, name }
    }

    fn server(&self, env: &[(&str, &str)]) -> Server {
        Server::start_with_env(&[], &[&[("NOTIFY_SOCKET", self.name.as_str())], env].concat())
    }

    fn next(&self) -> String {
        let mut word = [0; 64];
        let size = uninterrupted(|| self.socket.recv(&mut word)).expect("a notification");
        String::from_utf8_lossy(&word[..size]).into_owned()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.name);
    }
}

#[test]
fn a_supervisor_is_notified_of_readiness_and_of_shutdown() {
    for supervisor in
        [Supervisor::at_path("supervisor"), Supervisor::in_no_file_system("supervisor")]
    {
        let (listener, address) = tcp();
        let env = [("NOTIFY_SOCKET", OsStr::new(&supervisor.name))];
        let child = activated(listener.into(), None, &[], &env).spawn().expect("it runs");
        assert_eq!(supervisor.next(), "READY=1");
        Http::connect(&address).ask(&get("/health")).expect(200);
        let mut server = Server::watch(child, 1);
        let (_, ana, bob) = server.room_of_two();
        server.terminate();
        // It is notified before the open sockets have closed.
        assert_eq!(supervisor.next(), "STOPPING=1");
        for socket in [ana, bob] {
            socket.expect_close(1001, "server shutting down");
        }
        assert!(server.wait().success());
    }
}

#[test]
fn an_idle_server_notifies_its_watchdog() {
    let supervisor = Supervisor::at_path("watchdog");
    let started = Instant::now();
    let mut server = supervisor.server(&[("WATCHDOG_USEC", "100000")]);
    assert_eq!(supervisor.next(), "READY=1");
    for _ in 0..4 {
        assert_eq!(supervisor.next(), "WATCHDOG=1");
    }
    assert!(started.elapsed() >= 4 * Duration::from_millis(50), "more often than needed");
    server.terminate();
    while supervisor.next() != "STOPPING=1" {}
    assert!(server.wait().success());
}

#[test]
fn a_watchdog_for_another_process_is_not_notified() {
    let supervisor = Supervisor::at_path("other-watchdog");
    let mut server = supervisor.server(&[("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")]);
    assert_eq!(supervisor.next(), "READY=1");
    server.ask(get("/health")).expect(200);
    server.terminate();
    assert_eq!(supervisor.next(), "STOPPING=1");
    assert!(server.wait().success());
}

#[test]
fn a_supervisor_that_does_not_read_does_not_block_the_server() {
    let supervisor = Supervisor::at_path("deaf");
    let mut server = supervisor.server(&[("WATCHDOG_USEC", "1")]);
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("a non-blocking socket");
    wait_until("its queue is full", || {
        let sent = filler.send_to(b"x", &supervisor.name);
        sent.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    for _ in 0..20 {
        server.ask(get("/health")).expect(200);
    }
    server.terminate();
    assert!(server.wait().success());
}

#[test]
fn bad_variables_for_a_supervisor_cause_a_warning_and_no_failure() {
    let long = format!("/{}", "x".repeat(200));
    for name in ["nowhere", "/nowhere/at/all", "@", "@nobody-is-there", "vsock:2:1234", &long] {
        starts_with_a_warning(supervised(&[("NOTIFY_SOCKET", name)]), "NOTIFY_SOCKET");
    }
    let supervisor = Supervisor::at_path("nonsense");
    for (variable, word) in
        [("WATCHDOG_USEC", "soon"), ("WATCHDOG_USEC", "-1"), ("WATCHDOG_PID", "x")]
    {
        let env = [
            ("NOTIFY_SOCKET", supervisor.name.as_str()),
            ("WATCHDOG_USEC", "1000"),
            (variable, word),
        ];
        starts_with_a_warning(supervised(&env), variable);
        assert_eq!(
            (supervisor.next(), supervisor.next()),
            ("READY=1".to_owned(), "STOPPING=1".to_owned())
        );
    }
    // An empty variable counts as unset.
    let server = Server::start_with_env(&[], &[("NOTIFY_SOCKET", ""), ("LISTEN_FDS", "")]);
    assert!(
        !server.stderr().iter().any(|line| line.starts_with("warn: ")),
        "{:?}",
        server.stderr()
    );
}

fn supervised(env: &[(&str, &str)]) -> Command {
    let mut command = command(&["--listen", "127.0.0.1:0"], env);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}
