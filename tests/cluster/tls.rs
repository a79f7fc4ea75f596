//! TLS to the store: `rediss://`. What ends TLS in front of the store is a thread of the test, because
//! not every build of a store can.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::client::post;
use crate::server::{Server, wait_until};
use crate::stores::{PASSWORD, Store, USER};

/// An authority, in PEM, and a server's configuration with a certificate of it for these names.
fn authority(names: &[&str]) -> (String, Arc<ServerConfig>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (root.pem(), Arc::new(config))
}

/// Ends TLS in front of a store, for as many connections as come.
fn front(store: &Store, config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, socket) = (listener.local_addr().unwrap(), store.socket());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let Ok(store) = UnixStream::connect(&socket) else { return };
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            thread::spawn(move || pass_on(StreamOwned::new(session, stream), store));
        }
    });
    address
}

/// Passes bytes on in both directions, until one side ends.
fn pass_on(mut server: StreamOwned<ServerConnection, TcpStream>, mut store: UnixStream) {
    let pause = Some(Duration::from_millis(1));
    server.sock.set_read_timeout(pause).unwrap();
    store.set_read_timeout(pause).unwrap();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Some(count) = some_of(server.read(&mut buffer)) else { return };
        if store.write_all(&buffer[..count]).is_err() {
            return;
        }
        let Some(count) = some_of(store.read(&mut buffer)) else { return };
        if server.write_all(&buffer[..count]).and_then(|()| server.flush()).is_err() {
            return;
        }
    }
}

/// How much was read; `None`: it has ended.
fn some_of(read: std::io::Result<usize>) -> Option<usize> {
    match read {
        Ok(0) => None,
        Ok(count) => Some(count),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Some(0),
            _ => None,
        },
    }
}

#[test]
fn a_store_with_tls_is_used_if_its_certificate_is_trusted_and_names_its_address() {
    Store::each(|store| {
        let ca = |name: &str, pem: &str| {
            let path = store.socket().with_file_name(name);
            fs::write(&path, pem).unwrap();
            path.display().to_string()
        };
        let url = |address: SocketAddr, ca: &str| {
            format!("rediss://{USER}:{PASSWORD}@{address}/0?ca={ca}")
        };
        let (pem, config) = authority(&["127.0.0.1"]);
        let trusted = ca("ca.pem", &pem);
        let good = front(store, config);
        let server = Server::start(&["--cluster", &url(good, &trusted)]);
        let open = || post("/sessions").json(&json!({"username": "ana"}));
        wait_until("the store is in use", || server.ask(open()).status == 201);

        let (other_pem, other_config) = authority(&["127.0.0.2"]);
        let other = ca("other.pem", &other_pem);
        for (address, ca) in
            [(good, &other), (front(store, other_config), &other), (good, &"/nowhere".to_owned())]
        {
            let server = Server::start(&["--cluster", &url(address, ca)]);
            server.ask(open()).refused(503, "unavailable");
            let is_told = || server.stderr().iter().any(|line| line.contains("is away: "));
            wait_until("it says so", is_told);
            server.ask(open()).refused(503, "unavailable");
            assert!(!server.stderr().iter().any(|line| line.contains("is connected")));
        }
    });
}
