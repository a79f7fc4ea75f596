//! Why the server cannot start.
//!
//! Owns the one-line error that the operator reads. Must not know how the server starts. The
//! invariant: each failure names the flag, file or resource at fault.

use std::fmt;
use std::io;

use crate::config::Listen;
#[cfg(feature = "tls")]
use crate::net::IdentityError;

/// The machine or the operator's settings do not allow the server to start.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Listen(Listen, io::Error),
    /// The certificate or its key is invalid.
    #[cfg(feature = "tls")]
    Tls(IdentityError),
    /// The poll or the signals cannot be set up.
    Poll(io::Error),
    /// The system gives no randomness.
    Entropy(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(listen, error) => write!(f, "cannot listen on {listen}: {error}"),
            #[cfg(feature = "tls")]
            StartError::Tls(error) => write!(f, "cannot use the certificate: {error}"),
            StartError::Poll(error) => write!(f, "cannot poll: {error}"),
            StartError::Entropy(error) => write!(f, "the system has no randomness: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
