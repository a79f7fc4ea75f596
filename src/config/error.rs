//! Why the settings can't be had, in words.
//!
//! Owns the sentences. Must never know how they are reached. The invariant: an error is one
//! line, whatever was typed.

use std::ffi::OsString;
use std::fmt;

/// Why the server can't start as asked: one line for stderr.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// There is no such flag.
    UnknownFlag(String),
    /// Every argument is a flag or its value.
    UnexpectedArgument(OsString),
    /// The command line ends after this flag.
    MissingValue(String),
    /// Anything else that the parser of command lines refuses.
    Usage(String),
    /// A flag's or variable's value, or one of several, is no good.
    BadValue { source: String, text: String, fault: Fault },
    /// There is to be TLS, but this is not given.
    #[cfg(feature = "tls")]
    NoTlsFile(&'static str),
}

impl ConfigError {
    pub(super) fn bad_value(source: &str, text: &str, fault: Fault) -> ConfigError {
        ConfigError::BadValue { source: source.to_owned(), text: text.to_owned(), fault }
    }
}

impl fmt::Display for ConfigError {
    // `{:?}` on whatever was typed, so that the line stays one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::UnknownFlag(flag) => write!(f, "{flag:?} is not a flag (see --help)"),
            ConfigError::UnexpectedArgument(text) => {
                write!(f, "{text:?} is not expected here (see --help)")
            }
            ConfigError::MissingValue(flag) => write!(f, "{flag} needs a value (see --help)"),
            ConfigError::Usage(text) => write!(f, "{text}"),
            ConfigError::BadValue { source, text, fault } => {
                write!(f, "{source}: {text:?} {fault}")
            }
            #[cfg(feature = "tls")]
            ConfigError::NoTlsFile(flag) => {
                write!(f, "--listen tls:ADDRESS needs {flag} FILE (see --help)")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// What is wrong with a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is not one of these.
    Form(&'static str),
    /// It would be, but for its range.
    Range(String),
    /// It is an address with a name in it. Looking names up would block, and could change
    /// where the server listens between two starts.
    Name,
    /// It is good, but only a program built with this feature can do it.
    Feature(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Form(form) => write!(f, "is not {form}"),
            Fault::Range(range) => write!(f, "is out of range ({range})"),
            Fault::Name => write!(f, "has a host name, and none is looked up: give an IP address"),
            Fault::Feature(name) => {
                write!(f, "needs a build with the feature `{name}` (cargo build --features {name})")
            }
        }
    }
}
