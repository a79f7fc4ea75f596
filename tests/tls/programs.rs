//! Other people's programs: curl, OpenSSL, and the keys that it makes; the Python package `websockets`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::peer::{Folder, World, text};
use crate::program::{Ended, command, find, needed, run};
use crate::server::{Server, command as server_command};

fn openssl() -> Option<PathBuf> {
    needed("openssl", find(&["openssl"]))
}

/// `openssl ARGS` in a folder.
#[track_caller]
fn make(openssl: &Path, folder: &Folder, args: &str) -> Ended {
    let mut command = command(openssl);
    command.args(args.split(' ')).current_dir(folder.path(""));
    run(&mut command).expect_success()
}

/// `curl --cacert ROOT https://localhost:PORT/ping`, and more.
#[track_caller]
fn ping(curl: &Path, root: &str, server: &Server, at: usize, args: &[&str]) -> Ended {
    let port = server.addresses[at].host().rsplit(':').next().expect("a port").to_owned();
    let mut command = command(curl);
    command.args(["-q", "-sS", "--max-time", "30", "--cacert", root]).args(args);
    command.args(["--resolve", &format!("localhost:{port}:127.0.0.1")]);
    command.arg(format!("https://localhost:{port}/ping"));
    run(&mut command)
}

#[test]
fn curl_believes_what_it_is_shown() {
    let world = World::start(&[]);
    let Some(curl) = needed("curl", find(&["curl"])) else { return };
    let root = world.folder.write("root.pem", &world.authority.root_pem);
    for args in [&[][..], &["--http2"], &["--tls-max", "1.2"], &["--no-alpn"]] {
        let ended = ping(&curl, &root, &world.server, 1, args).expect_success();
        assert_eq!(ended.stdout(), r#"{"status":"ok"}"#, "{args:?} {}", ended.stderr);
    }
    let stranger = world.folder.write("other.pem", &crate::peer::Authority::new().root_pem);
    let refused = ping(&curl, &stranger, &world.server, 1, &[]);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    // Over TLS 1.1 nobody talks any more.
    let refused = ping(&curl, &root, &world.server, 1, &["--tls-max", "1.1"]);
    assert!(!refused.status.success(), "{refused:?}");
}

#[test]
fn openssl_sees_protocol_chain_and_end() {
    let world = World::start(&[]);
    let Some(openssl) = openssl() else { return };
    let root = world.folder.write("root.pem", &world.authority.root_pem);
    let mut client = command(openssl);
    client.args(["s_client", "-connect", &world.address().host(), "-servername", "localhost"]);
    client.args(["-CAfile", &root, "-verify_return_error", "-alpn", "h2,http/1.1", "-ign_eof"]);
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = client.spawn().expect("openssl runs");
    let mut stdin = client.stdin.take().expect("piped");
    stdin.write_all(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let ended = client.wait_with_output().expect("it ends when we do");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said} {}", String::from_utf8_lossy(&ended.stderr));
    for line in ["ALPN protocol: http/1.1", "Verify return code: 0 (ok)", "HTTP/1.1 200 OK"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.trim_end().ends_with("closed"), "{said}");
}

#[test]
fn keys_of_every_form_are_read() {
    let Some(openssl) = openssl() else { return };
    let Some(curl) = needed("curl", find(&["curl"])) else { return };
    let folder = Folder::new();
    for (name, key, head) in [
        ("pkcs8", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out KEY", "PRIVATE KEY"),
        ("p384", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out KEY", "PRIVATE KEY"),
        ("sec1", "ecparam -name prime256v1 -genkey -noout -out KEY", "EC PRIVATE KEY"),
        ("ed25519", "genpkey -algorithm ED25519 -out KEY", "PRIVATE KEY"),
        ("pkcs1", "genrsa -traditional -out KEY 2048", "RSA PRIVATE KEY"),
    ] {
        make(&openssl, &folder, &key.replace("KEY", &format!("{name}.key")));
        let subject = "-subj /CN=localhost -addext subjectAltName=DNS:localhost";
        let request = format!("req -x509 -key {name}.key -out {name}.pem -days 2 {subject}");
        make(&openssl, &folder, &request);
        let (certificate, key) = (
            text(&folder.path(&format!("{name}.pem"))),
            text(&folder.path(&format!("{name}.key"))),
        );
        let begin = format!("-----BEGIN {head}-----");
        assert!(std::fs::read_to_string(&key).expect("a key").contains(&begin), "{name}");
        let flags = ["--listen", "tls:127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &key];
        let server = Server::spawn(server_command(&flags, &[]), 1);
        ping(&curl, &certificate, &server, 0, &[]).expect_success();
    }
}

const SOCKET: &str = r#"
import ssl, sys
from websockets.sync.client import connect
context = ssl.create_default_context(cafile=sys.argv[1])
with connect(sys.argv[2], ssl=context) as socket:
    socket.recv()
    for text in ("hello", "x" * 4000):
        socket.send('{"type":"chat","message":"' + text + '"}')
        assert text in socket.recv()
assert socket.close_code == 1000
print("all held")
"#;

#[test]
fn websockets_talks_over_wss() {
    let world = World::start(&[]);
    let named = std::env::var_os("CLIENTS_PYTHON").map(PathBuf::from);
    let python = named.or_else(|| find(&["python3"])).filter(|python| {
        run(command(python).args(["-c", "import websockets.sync.client"])).status.success()
    });
    let Some(python) = needed("python3 with the package websockets", python) else { return };
    let root = world.folder.write("root.pem", &world.authority.root_pem);
    let session = world.server.session("ana");
    let room = world.server.room(&session);
    let port = world.address().host().rsplit(':').next().expect("a port").to_owned();
    let url = format!("wss://localhost:{port}/ws/{room}?session_id={session}");
    let ended = run(command(python).arg("-c").arg(SOCKET).args([root, url])).expect_success();
    assert_eq!(ended.stdout(), "all held\n", "{ended:?}");
}
