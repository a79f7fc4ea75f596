//! Other clients: curl, OpenSSL and the keys that it creates, and the Python package `websockets`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::peer::{Folder, TlsServer, text};
use crate::program::{Ended, command, find, needed, run};
use crate::server::{Server, command as server_command};

fn openssl() -> Option<PathBuf> {
    needed("openssl", find(&["openssl"]))
}

/// Runs `openssl ARGS` in a folder.
#[track_caller]
fn make(openssl: &Path, folder: &Folder, args: &str) -> Ended {
    let mut command = command(openssl);
    command.args(args.split(' ')).current_dir(folder.path(""));
    run(&mut command).expect_success()
}

/// Runs `curl --cacert ROOT ARGS https://localhost:PORT/ping`.
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
fn curl_connects_if_it_trusts_the_authority() {
    let tls_server = TlsServer::start(&[]);
    let Some(curl) = needed("curl", find(&["curl"])) else { return };
    let root = tls_server.folder.write("root.pem", &tls_server.authority.root_pem);
    for args in [&[][..], &["--http2"], &["--tls-max", "1.2"], &["--no-alpn"]] {
        let ended = ping(&curl, &root, &tls_server.server, 1, args).expect_success();
        assert_eq!(ended.stdout(), r#"{"status":"ok"}"#, "{args:?} {}", ended.stderr);
    }
    let other = tls_server.folder.write("other.pem", &crate::peer::Authority::new().root_pem);
    let refused = ping(&curl, &other, &tls_server.server, 1, &[]);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    // TLS 1.1 is not supported.
    let refused = ping(&curl, &root, &tls_server.server, 1, &["--tls-max", "1.1"]);
    assert!(!refused.status.success(), "{refused:?}");
}

#[test]
fn openssl_verifies_protocol_chain_and_close() {
    let tls_server = TlsServer::start(&[]);
    let Some(openssl) = openssl() else { return };
    let root = tls_server.folder.write("root.pem", &tls_server.authority.root_pem);
    let mut client = command(openssl);
    client.args(["s_client", "-connect", &tls_server.address().host(), "-servername", "localhost"]);
    client.args(["-CAfile", &root, "-verify_return_error", "-alpn", "h2,http/1.1", "-ign_eof"]);
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = client.spawn().expect("openssl runs");
    let mut stdin = client.stdin.take().expect("piped");
    stdin.write_all(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let ended = client.wait_with_output().expect("it ends with the connection");
    let sent = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{sent} {}", String::from_utf8_lossy(&ended.stderr));
    for line in ["ALPN protocol: http/1.1", "Verify return code: 0 (ok)", "HTTP/1.1 200 OK"] {
        assert!(sent.contains(line), "{line}: {sent}");
    }
    assert!(sent.trim_end().ends_with("closed"), "{sent}");
}

#[test]
fn keys_in_every_format_are_accepted() {
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

/// Uses the client for asyncio. The one for threads reads and writes the same TLS connection in two
/// threads, which OpenSSL does not support: about one in a thousand never sends its request.
const SOCKET: &str = r#"
import asyncio, ssl, sys
from websockets.asyncio.client import connect

async def chat():
    context = ssl.create_default_context(cafile=sys.argv[1])
    async with connect(sys.argv[2], ssl=context) as socket:
        await socket.recv()
        for text in ("hello", "x" * 4000):
            await socket.send('{"type":"chat","message":"' + text + '"}')
            assert text in await socket.recv()
    assert socket.close_code == 1000

asyncio.run(chat())
print("all held")
"#;

#[test]
fn websockets_chats_over_wss() {
    let tls_server = TlsServer::start(&[]);
    let named = std::env::var_os("CLIENTS_PYTHON").map(PathBuf::from);
    let python = named.or_else(|| find(&["python3"])).filter(|python| {
        run(command(python).args(["-c", "import websockets.asyncio.client"])).status.success()
    });
    let Some(python) = needed("python3 with the package websockets", python) else { return };
    let root = tls_server.folder.write("root.pem", &tls_server.authority.root_pem);
    let session = tls_server.server.session("ana");
    let room = tls_server.server.room(&session);
    let port = tls_server.address().host().rsplit(':').next().expect("a port").to_owned();
    let url = format!("wss://localhost:{port}/ws/{room}?session_id={session}");
    let ended = run(command(python).arg("-c").arg(SOCKET).args([root, url])).expect_success();
    assert_eq!(ended.stdout(), "all held\n", "{ended:?}");
}
