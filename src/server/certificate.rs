//! The certificate: read at start, and again when the operator says so.
//!
//! Owns when its files are read, which is at no other time. Must never know what is in them. The
//! invariant: once there is a good one there is always one; a bad new one changes nothing.

use log::{error, info};

use super::{Server, StartError};
use crate::config::{Config, Listen};
use crate::net::{Identity, IdentityError};

/// The certificate that listeners need, if any of them does.
pub(super) fn read(config: &Config) -> Result<Option<Identity>, StartError> {
    let mut listeners = config.listen.iter().chain(&config.metrics_listen);
    match listeners.any(|listen| matches!(listen, Listen::Tls(_))) {
        true => read_files(config).map(Some).map_err(StartError::Tls),
        false => Ok(None),
    }
}

fn read_files(config: &Config) -> Result<Identity, IdentityError> {
    let [certificate, key] = [&config.tls_cert, &config.tls_key]
        .map(|file| file.as_deref().expect("a Config with TLS has both"));
    Identity::read(certificate, key)
}

impl Server {
    /// SIGHUP: whoever connects from now on sees what the files hold now.
    pub(super) fn read_again(&mut self) {
        match read_files(&self.config) {
            Ok(identity) => {
                for acceptor in &mut self.listeners {
                    acceptor.listener.set_identity(&identity);
                }
                info!("the certificate was read again");
            }
            Err(error) => error!("the old certificate stays: {error}"),
        }
    }
}
