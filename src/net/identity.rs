//! Certificates and private keys.
//!
//! Owns reading both from files, and the server's TLS configuration. Must not know when the files
//! are read. The invariant: the key of an [`Identity`] belongs to its certificate.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;

/// A certificate with its key, shared by any number of connections. Cheap to clone.
#[derive(Clone)]
pub struct Identity(pub(super) Arc<ServerConfig>);

/// Why a certificate cannot be used.
#[derive(Debug)]
pub enum IdentityError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The file contains no certificate.
    NoCertificate(PathBuf),
    /// The file contains no private key.
    NoKey(PathBuf),
    /// Certificate and key do not match, or have an unsupported type.
    Unusable(rustls::Error),
}

impl Identity {
    /// Reads a certificate chain, the server's own certificate first, and its private key. Both
    /// files are PEM, and may be the same file.
    pub fn read(certificate: &Path, key: &Path) -> Result<Identity, IdentityError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| IdentityError::Unreadable(path.to_owned(), error))
        };
        let chain = CertificateDer::pem_slice_iter(&read(certificate)?).collect::<Result<_, _>>();
        let chain: Vec<_> = chain.unwrap_or_default();
        if chain.is_empty() {
            return Err(IdentityError::NoCertificate(certificate.to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|_| IdentityError::NoKey(key.to_owned()))?;
        Identity::new(chain, key).map_err(IdentityError::Unusable)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Identity, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A ticket contains the whole session, so that resumption needs no memory on the server.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(Identity(Arc::new(config)))
    }
}

impl fmt::Display for IdentityError {
    // `{:?}` escapes line breaks in paths.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::Unreadable(path, error) => write!(f, "{path:?}: {error}"),
            IdentityError::NoCertificate(path) => write!(f, "{path:?} has no certificate in PEM"),
            IdentityError::NoKey(path) => write!(f, "{path:?} has no private key in PEM"),
            IdentityError::Unusable(rustls::Error::InconsistentKeys(_)) => {
                write!(f, "the private key does not match the certificate")
            }
            IdentityError::Unusable(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for IdentityError {}
