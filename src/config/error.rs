//! Errors in flags and variables.
//!
//! Owns the error messages. Must not know how a value is read. The invariant: an error is one line
//! on stderr, whatever the input contains.

use std::ffi::OsString;
use std::fmt;

/// Why the server cannot start with these flags and variables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// No flag has this name.
    UnknownFlag(String),
    /// An argument that is neither a flag nor the value of one.
    UnexpectedArgument(OsString),
    /// The command line ends after this flag.
    MissingValue(String),
    /// Any other error of the command-line parser.
    Usage(String),
    /// The value `text` of a flag or variable (`source`), or one entry of its list.
    BadValue { source: String, text: String, error: ValueError },
    /// A listener uses TLS, but this flag is missing.
    #[cfg(feature = "tls")]
    NoTlsFile(&'static str),
    /// A cluster's server keeps no state of its own.
    #[cfg(feature = "cluster")]
    StateInCluster,
    /// The lease is not longer than the timeout.
    #[cfg(feature = "cluster")]
    ShortLease,
}

impl ConfigError {
    pub(super) fn bad_value(source: &str, text: &str, error: ValueError) -> ConfigError {
        ConfigError::BadValue { source: source.to_owned(), text: text.to_owned(), error }
    }
}

impl fmt::Display for ConfigError {
    // `{:?}` escapes line breaks in the input.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::UnknownFlag(flag) => write!(f, "{flag:?} is not a flag (see --help)"),
            ConfigError::UnexpectedArgument(text) => {
                write!(f, "{text:?} is not expected here (see --help)")
            }
            ConfigError::MissingValue(flag) => write!(f, "{flag} needs a value (see --help)"),
            ConfigError::Usage(text) => write!(f, "{text}"),
            ConfigError::BadValue { source, text, error } => {
                write!(f, "{source}: {text:?} {error}")
            }
            #[cfg(feature = "tls")]
            ConfigError::NoTlsFile(flag) => {
                write!(f, "--listen tls:ADDRESS needs {flag} FILE (see --help)")
            }
            #[cfg(feature = "cluster")]
            ConfigError::StateInCluster => {
                write!(f, "--state and --cluster exclude each other: the store keeps the state")
            }
            #[cfg(feature = "cluster")]
            ConfigError::ShortLease => {
                write!(f, "--cluster-lease must be longer than --cluster-timeout")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// What is wrong with a value. The displayed text follows the value in the error message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ValueError {
    /// The value does not have this form.
    Form(&'static str),
    /// The form is right, but the value is out of this range.
    Range(String),
    /// The address contains a host name. A lookup would block the start, and the listener's address
    /// could differ from one start to the next.
    HostName,
    /// The value needs a build with this feature.
    Feature(&'static str),
    /// A PROXY header and TLS on one listener.
    ProxiedTls,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueError::Form(form) => write!(f, "is not {form}"),
            ValueError::Range(range) => write!(f, "is out of range ({range})"),
            ValueError::HostName => {
                write!(f, "has a host name, which is never looked up; give an IP address")
            }
            ValueError::Feature(name) => {
                write!(f, "needs a build with the feature `{name}` (cargo build --features {name})")
            }
            ValueError::ProxiedTls => {
                write!(f, "is not supported: a PROXY header precedes TLS; let the balancer end TLS")
            }
        }
    }
}
