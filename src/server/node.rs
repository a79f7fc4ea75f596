//! A server's part in a cluster, from its settings.
//!
//! Owns reading the file with the secret, and drawing a secret for a store that has none. Must not
//! know what the parts are for. The invariant: a server with a bad secret does not start, because it
//! would be alone in a cluster of its own.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::StartError;
use super::settings;
use crate::clock::{Entropy, OsEntropy};
use crate::cluster::library::{self, Library};
use crate::cluster::{Cluster, ClusterSettings, UplinkConfig, terms};
use crate::config::Config;

/// Fewest bytes of a secret.
const SECRET_BYTES_MIN: usize = 32;
/// Most bytes of a secret. More than this many random bytes are not needed.
const SECRET_BYTES_MAX: usize = 4096;

/// What this server is in its cluster. It has not reached the store yet.
pub(super) fn join(config: &Config) -> Result<Cluster, StartError> {
    let entropy = OsEntropy::new().map_err(StartError::Entropy)?;
    let secret = match &config.cluster_secret {
        Some(path) => Some(secret(path).map_err(|error| StartError::Secret(path.clone(), error))?),
        None => None,
    };
    Ok(cluster_node(config, secret, Box::new(entropy)))
}

/// A node with these settings. `secret`: that of the settings' file.
pub fn cluster_node(
    config: &Config,
    secret: Option<Vec<u8>>,
    mut entropy: Box<dyn Entropy>,
) -> Cluster {
    let uplink = UplinkConfig {
        prefix: config.cluster_prefix.clone(),
        partitions: config.cluster_partitions,
        timeout: config.cluster_timeout,
        lease: config.cluster_lease,
        ttl_max: config.room_ttl.max(config.new_room_ttl),
        terms: terms(config.cluster_partitions, secret.as_deref()),
        secret_draft: if secret.is_some() { String::new() } else { draft(&mut *entropy) },
    };
    let settings = ClusterSettings {
        chat: settings::chat_config(config),
        lease: config.cluster_lease,
        patience: config.cluster_patience,
        secret,
    };
    Cluster::new(settings, uplink, Library::of(&library::source()), entropy)
}

/// Random, in hex digits.
fn draft(entropy: &mut dyn Entropy) -> String {
    let mut draft = String::new();
    for byte in entropy.bytes::<SECRET_BYTES_MIN>() {
        let written = write!(draft, "{byte:02x}");
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    draft
}

fn secret(path: &Path) -> io::Result<Vec<u8>> {
    let mut secret = Vec::new();
    File::open(path)?.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut secret)?;
    // An editor ends a file with a line break, and a copy of it may lack that.
    let kept = secret.trim_ascii_end().len();
    secret.truncate(kept);
    match (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
        true => Ok(secret),
        false => Err(io::Error::other("it does not have 32 to 4096 bytes")),
    }
}
