//! Why the server cannot start.
//!
//! Owns the one-line error that the operator reads. Must not know how the server starts. The
//! invariant: each failure names the flag, file or resource at fault.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::config::Listen;
#[cfg(feature = "tls")]
use crate::net::IdentityError;

/// The machine or the operator's settings do not allow the server to start.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on. With the name of its flag, without the dashes.
    Listen(&'static str, Listen, io::Error),
    /// The certificate or its key is invalid.
    #[cfg(feature = "tls")]
    Tls(IdentityError),
    /// The poll or the signals cannot be set up.
    Poll(io::Error),
    /// The system gives no randomness.
    Entropy(io::Error),
    /// The state file cannot be written, or a file in its place cannot be set aside.
    State(PathBuf, io::Error),
    /// The file with the secret of the cluster cannot be used.
    #[cfg(feature = "cluster")]
    Secret(PathBuf, io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The most common failure of a first start, so the line says how to go on.
            StartError::Listen(flag, listen, error) if error.kind() == ErrorKind::AddrInUse => {
                write!(f, "cannot listen on {listen}: it is in use; choose another with --{flag}")
            }
            StartError::Listen(_, listen, error) => write!(f, "cannot listen on {listen}: {error}"),
            #[cfg(feature = "tls")]
            StartError::Tls(error) => write!(f, "cannot use the certificate: {error}"),
            StartError::Poll(error) => write!(f, "cannot poll: {error}"),
            StartError::Entropy(error) => write!(f, "the system has no randomness: {error}"),
            StartError::State(path, error) => {
                write!(f, "cannot write --state {}: {error}", path.display())
            }
            #[cfg(feature = "cluster")]
            StartError::Secret(path, error) => {
                write!(f, "cannot use --cluster-secret {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for StartError {}
