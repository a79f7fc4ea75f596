//! Reads the command line and the environment into a [`Task`].
//!
//! Owns the precedence of the sources, and the settings that `check` prints. Must not know the
//! purpose of any single flag. The invariant: a setting comes from exactly one source: the flag,
//! else its variable, else `PORT` for `--listen`, else the table's default.

use std::ffi::OsString;
use std::time::Duration;

use lexopt::Arg::{Long, Short, Value};
use log::LevelFilter;

use super::error::{ConfigError, ValueError};
use super::flags::{CREATION_BURST, FLAGS, Flag, FlagKind};
use super::help::help;
use super::value::port;
use super::{Config, Rate};

/// The action that the command line requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Task {
    /// Run the server.
    Serve(Config),
    /// Print these lines, each a flag with its value, then the limits of the machine, and exit with
    /// 0.
    Check(Config, String),
    /// Print this text on stdout and exit with 0.
    Help(String),
    /// Print name and version on stdout and exit with 0.
    Version,
}

impl Config {
    /// Reads the command line (without the program's name) and the environment.
    ///
    /// A flag overrides its variable. If a flag is repeated, the last value counts, except that a
    /// list flag adds one entry each time. An empty variable counts as unset.
    pub fn parse(
        args: impl Iterator<Item = OsString>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Task, ConfigError> {
        let mut given: Vec<Vec<String>> = vec![Vec::new(); FLAGS.len()];
        let mut is_check = false;
        let mut parser = lexopt::Parser::from_args(args.collect::<Vec<_>>());
        while let Some(arg) =
            parser.next().map_err(|error| ConfigError::Usage(error.to_string()))?
        {
            let name = match arg {
                Long("help") | Short('h') => return Ok(Task::Help(help())),
                Long("version") | Short('V') => return Ok(Task::Version),
                Long(name) => name,
                Short(letter) => return Err(ConfigError::UnknownFlag(format!("-{letter}"))),
                Value(text) if text == "check" && !is_check => {
                    is_check = true;
                    continue;
                }
                Value(text) => return Err(ConfigError::UnexpectedArgument(text)),
            };
            let Some(index) = FLAGS.iter().position(|flag| flag.name == name) else {
                return Err(ConfigError::UnknownFlag(format!("--{name}")));
            };
            let option = FLAGS[index].option();
            match parser.value() {
                Ok(value) => given[index].push(utf8(&option, value)?),
                Err(_) => return Err(ConfigError::MissingValue(option)),
            }
        }

        let mut config = Config::default();
        let mut settings = String::new();
        for (flag, texts) in FLAGS.iter().zip(given) {
            let option = flag.option();
            let (source, mut texts) = match texts.is_empty() {
                true => flag.by_variable(&env)?,
                false => (option.clone(), texts),
            };
            if let (Some(feature), Some(text)) = (flag.missing_feature(), texts.first()) {
                let error = ValueError::Feature(feature);
                return Err(ConfigError::bad_value(&source, &flag.kind.shown(text), error));
            }
            if !texts.is_empty() {
                flag.apply(&mut config, &source, &texts)?;
            } else if is_check && flag.missing_feature().is_none() {
                texts.push(flag.default.to_owned());
            }
            if is_check {
                // Unless the flag is a list, the last value counts.
                let first = if flag.kind.is_list() { 0 } else { texts.len().saturating_sub(1) };
                for text in &texts[first..] {
                    settings.extend([option.as_str(), "=", &flag.kind.shown(text), "\n"]);
                }
            }
        }
        #[cfg(feature = "tls")]
        config.check_tls()?;
        #[cfg(feature = "cluster")]
        config.check_cluster()?;
        if is_check {
            return Ok(Task::Check(config, settings));
        }
        Ok(Task::Serve(config))
    }

    /// The store keeps the state of a cluster. A lease that ends before a call is given up would end
    /// while a healthy server waits.
    #[cfg(feature = "cluster")]
    fn check_cluster(&self) -> Result<(), ConfigError> {
        if self.cluster.is_some() && self.state.is_some() {
            return Err(ConfigError::StateInCluster);
        }
        match self.cluster_lease > self.cluster_timeout {
            true => Ok(()),
            false => Err(ConfigError::ShortLease),
        }
    }

    /// A TLS listener needs a certificate and its key.
    #[cfg(feature = "tls")]
    fn check_tls(&self) -> Result<(), ConfigError> {
        if self.has_tls() {
            self.tls_cert.as_ref().ok_or(ConfigError::NoTlsFile("--tls-cert"))?;
            self.tls_key.as_ref().ok_or(ConfigError::NoTlsFile("--tls-key"))?;
        }
        Ok(())
    }
}

impl Default for Config {
    /// The settings when no flag and no variable is given.
    fn default() -> Config {
        // Placeholders: the loop below sets every default from the table, where it is written once.
        let mut config = Config {
            listen: Vec::new(),
            listen_by_default: true,
            tls_cert: None,
            tls_key: None,
            session_ttl: Duration::ZERO,
            room_ttl: Duration::ZERO,
            new_room_ttl: Duration::ZERO,
            room_life_max: Duration::ZERO,
            leave_grace: Duration::ZERO,
            header_timeout: Duration::ZERO,
            body_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            linger_timeout: Duration::ZERO,
            ping_interval: Duration::ZERO,
            ping_timeout: Duration::ZERO,
            probe_timeout: Duration::ZERO,
            history_messages_max: 0,
            message_rate: Rate { per_second: 0, burst: 0 },
            session_rate: Rate { per_second: 0, burst: CREATION_BURST },
            room_rate: Rate { per_second: 0, burst: CREATION_BURST },
            guess_rate: 0,
            room_guess_rate: 0,
            address_connections_max: None,
            address_sessions_max: None,
            trusted_proxies: Vec::new(),
            connections_max: None,
            sessions_max: 0,
            rooms_max: 0,
            memory_bytes_max: 0,
            outbox_bytes_max: 0,
            cors_origins: Vec::new(),
            metrics_listen: Vec::new(),
            admin_listen: Vec::new(),
            state: None,
            #[cfg(feature = "cluster")]
            cluster: None,
            cluster_secret: None,
            cluster_prefix: String::new(),
            cluster_partitions: 0,
            cluster_timeout: Duration::ZERO,
            cluster_lease: Duration::ZERO,
            cluster_patience: Duration::ZERO,
            log: LevelFilter::Off,
        };
        for flag in FLAGS {
            // Every test of this module fails if a default is not valid for its own flag.
            flag.apply(&mut config, &flag.option(), &[flag.default.to_owned()])
                .unwrap_or_else(|error| panic!("{error}"));
        }
        config.listen_by_default = true;
        config
    }
}

impl Flag {
    /// The name of this flag's variable, and its values. `PORT` is a fallback for `--listen`. There
    /// are no values if neither is set.
    fn by_variable(
        &self,
        env: &impl Fn(&str) -> Option<OsString>,
    ) -> Result<(String, Vec<String>), ConfigError> {
        let read = |name: &str| match env(name).filter(|value| !value.is_empty()) {
            Some(value) => utf8(name, value).map(Some),
            None => Ok(None),
        };
        let variable = self.variable();
        let mut texts = Vec::new();
        match read(&variable)? {
            Some(text) if self.kind.is_list() => {
                texts.extend(text.split(',').map(|item| item.trim().to_owned()));
            }
            Some(text) => texts.push(text),
            // Hosting platforms set PORT and connect from outside, so loopback would not be
            // reachable.
            None if matches!(self.kind, FlagKind::Listen) => {
                if let Some(text) = read("PORT")? {
                    let port = port(&text)
                        .map_err(|error| ConfigError::bad_value("PORT", &text, error))?;
                    texts.push(format!("0.0.0.0:{port}"));
                }
            }
            None => {}
        }
        Ok((variable, texts))
    }
}

fn utf8(source: &str, value: OsString) -> Result<String, ConfigError> {
    value.into_string().map_err(|raw| {
        ConfigError::bad_value(source, &raw.to_string_lossy(), ValueError::Form("valid UTF-8"))
    })
}
