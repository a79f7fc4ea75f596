//! A certificate authority, its certificates as files, and clients that trust it.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::client::{Http, Request, Stream, Ws, upgrade};
use crate::server::{Address, DEADLINE, Server, command};

/// A client's TLS connection over TCP.
pub type Peer = StreamOwned<ClientConnection, TcpStream>;

/// A folder that only one test uses. Dropping it removes it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("chat-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("a file");
        text(&path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// A certificate authority.
pub struct Authority {
    pub root: CertificateDer<'static>,
    pub root_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Issued {
    pub certificate: CertificateDer<'static>,
    pub certificate_pem: String,
    pub key_pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let root = params.self_signed(&key).expect("a root");
        let (der, pem) = (root.der().clone(), root.pem());
        Authority { root: der, root_pem: pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for this machine.
    pub fn issue(&self) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

/// A server with a plain listener and then a TLS listener, the authority behind its certificate, and the configuration
/// of a client that trusts it.
pub struct TlsServer {
    pub server: Server,
    pub folder: Folder,
    pub authority: Authority,
    pub issued: Issued,
    /// Trusts the authority, and keeps tickets for resumption.
    pub client_config: Arc<ClientConfig>,
}

impl TlsServer {
    pub fn start(flags: &[&str]) -> TlsServer {
        let (folder, authority) = (Folder::new(), Authority::new());
        let issued = authority.issue();
        let certificate = folder.write("cert.pem", &issued.certificate_pem);
        let key = folder.write("key.pem", &issued.key_pem);
        let mut all = vec!["--listen", "127.0.0.1:0", "--listen", "tls:127.0.0.1:0"];
        all.extend(["--tls-cert", &certificate, "--tls-key", &key]);
        all.extend_from_slice(flags);
        let listeners = all.iter().filter(|flag| flag.ends_with("listen")).count();
        let server = Server::spawn(command(&all, &[]), listeners);
        let client_config = client_config(&authority, &[&TLS13, &TLS12], &[b"http/1.1"]);
        TlsServer { server, folder, authority, issued, client_config }
    }

    /// The address of the TLS listener.
    pub fn address(&self) -> &Address {
        &self.server.addresses[1]
    }

    /// A TCP connection to the TLS listener.
    pub fn tcp(&self) -> TcpStream {
        match Stream::connect(self.address()) {
            Stream::Tcp(stream) => stream,
            _ => panic!("only TCP has TLS"),
        }
    }

    /// A TLS connection whose handshake has not begun.
    pub fn peer(&self, config: &Arc<ClientConfig>) -> Peer {
        StreamOwned::new(session(config), self.tcp())
    }

    /// An HTTP connection over TLS.
    pub fn http(&self) -> Http {
        self.over(self.peer(&self.client_config))
    }

    pub fn over(&self, peer: Peer) -> Http {
        let below = peer.sock.try_clone().expect("a handle");
        Http::over(Stream::Over(Box::new(peer), below), self.address())
    }

    pub fn ask(&self, request: Request) -> crate::client::Answer {
        self.http().ask(&request)
    }

    /// A session's first socket in the room, over TLS, whose own join has been read.
    pub fn enter(&self, room: &str, name: &str) -> Ws {
        let session = self.server.session(name);
        let mut ws = self.http().upgrade(&upgrade(&format!("/ws/{room}?session_id={session}")));
        ws.expect_join(name);
        ws
    }
}

pub fn session(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::clone(config), name).expect("a session")
}

/// The configuration of a client that trusts the authority, with these versions and ALPN protocols.
pub fn client_config(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&[u8]],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root.clone()).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// Completes the handshake.
pub fn handshake(peer: &mut Peer) -> std::io::Result<()> {
    peer.sock.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    while peer.conn.is_handshaking() {
        peer.conn.complete_io(&mut peer.sock)?;
    }
    Ok(())
}
