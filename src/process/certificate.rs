//! The certificate's files (feature `tls`).
//!
//! Owns when they are read: at start and at SIGHUP. Must not know what is in them. The invariant:
//! once there is a valid certificate there is always one; an invalid new one changes nothing.

use crate::config::Config;
use crate::net::{Identity, IdentityError};

/// The certificate, if a listener needs one.
pub fn read(config: &Config) -> Result<Option<Identity>, IdentityError> {
    match config.has_tls() {
        true => read_files(config).map(Some),
        false => Ok(None),
    }
}

/// The certificate of a configuration that has a listener with TLS.
pub fn read_files(config: &Config) -> Result<Identity, IdentityError> {
    let [certificate, key] = [&config.tls_cert, &config.tls_key]
        .map(|file| file.as_deref().expect("a Config with TLS has both"));
    Identity::read(certificate, key)
}
