//! The settings, from flags and environment variables, whose one table is [`FLAGS`].
//!
//! Owns [`Config`] and `--help`. Must never know what a setting is used for, nor read a file or
//! touch a socket: arguments and variables come in as plain values. The invariant: a [`Config`]
//! that exists is complete and within range, so nobody checks one later.

mod error;
mod flags;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Arg::{Long, Short, Value};
use log::LevelFilter;

pub use error::{ConfigError, Fault};
use flags::CREATION_BURST;
pub use flags::{FLAGS, Flag, FlagKind};
use value::port;
pub use value::{Cidr, Listen, whole};

/// The server's settings, complete and within range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where to accept connections; at least one.
    pub listen: Vec<Listen>,
    /// Nobody has said so, and listeners that are handed over take its place.
    pub listen_by_default: bool,
    /// The certificate for those with TLS; there, if there is one of them.
    pub tls_cert: Option<PathBuf>,
    /// Its key, likewise.
    pub tls_key: Option<PathBuf>,
    /// How long a session outlives its last use; 1 ms to ten years, like all that follow.
    pub session_ttl: Duration,
    /// How long a room outlives its last connection.
    pub room_ttl: Duration,
    /// How long a room lives that nobody has connected to yet.
    pub new_room_ttl: Duration,
    /// How long a broken line may take to come back before its member has left; may be zero.
    pub leave_grace: Duration,
    /// For a whole request head, however it drips in.
    pub header_timeout: Duration,
    /// For a whole request body, likewise.
    pub body_timeout: Duration,
    /// Between two requests of a kept-alive connection.
    pub idle_timeout: Duration,
    /// How long input is still discarded after the last answer.
    pub linger_timeout: Duration,
    /// Silence on a WebSocket after which it is pinged.
    pub ping_interval: Duration,
    /// Further silence after which it is dropped.
    pub ping_timeout: Duration,
    /// How long the holder of a name has for its pong when somebody else wants the name.
    pub probe_timeout: Duration,
    /// Messages kept per room; 0 to 1 000 000.
    pub history_messages_max: usize,
    /// Messages that one session may post.
    pub message_rate: Rate,
    /// Sessions that one address may create.
    pub session_rate: Rate,
    /// Rooms that one address may create.
    pub room_rate: Rate,
    /// Wrong passwords per minute, for one room from one address; 0 to 10 000 000; 0: unlimited.
    pub guess_rate: u32,
    /// Connections of one address; `None`: unlimited.
    pub address_connections_max: Option<usize>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// `None`: what the descriptor limit allows, which `server` finds out.
    pub connections_max: Option<usize>,
    /// 1 to 10 000 000.
    pub sessions_max: usize,
    /// 1 to 10 000 000.
    pub rooms_max: usize,
    /// Bytes kept for all clients together; 1 MiB to a tebibyte.
    pub memory_bytes_max: usize,
    /// Bytes queued for one slow connection; 64 KiB (the largest frame) to 1 GiB.
    pub outbox_bytes_max: usize,
    /// Origins as browsers send them, in lower case (a request's must be lowered to compare);
    /// empty: any.
    pub cors_origins: Vec<String>,
    /// Where to accept connections that may ask for the metrics, and for nothing else.
    pub metrics_listen: Vec<Listen>,
    /// Where what a restart is not to lose lies in between; `None`: nowhere.
    pub state: Option<PathBuf>,
    /// Never `Trace`.
    pub log: LevelFilter,
}

/// So many a second, with bursts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// 0 to 10 000 000; 0: unlimited, whatever `burst` says.
    pub per_second: u32,
    /// 1 to 10 000 000.
    pub burst: u32,
}

/// What the command line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Run the server.
    Serve(Config),
    /// Print this text, which has a flag and its value a line, and what the machine allows, and
    /// leave with 0.
    Check(Config, String),
    /// Print this text on stdout and leave with 0.
    Help(String),
    /// Print name and version on stdout and leave with 0.
    Version,
}

impl Config {
    /// Reads the command line (without the program's name) and the environment.
    ///
    /// A flag wins over its variable, and the last of several over the others; a flag that
    /// makes a list adds to it. An empty variable counts as not set.
    pub fn parse(
        args: impl Iterator<Item = OsString>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Command, ConfigError> {
        let mut given: Vec<Vec<String>> = vec![Vec::new(); FLAGS.len()];
        let mut is_check = false;
        let mut parser = lexopt::Parser::from_args(args.collect::<Vec<_>>());
        while let Some(arg) =
            parser.next().map_err(|error| ConfigError::Usage(error.to_string()))?
        {
            let name = match arg {
                Long("help") | Short('h') => return Ok(Command::Help(help())),
                Long("version") | Short('V') => return Ok(Command::Version),
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
            if !texts.is_empty() {
                flag.apply(&mut config, &source, &texts)?;
            } else if is_check {
                texts.push(flag.default.to_owned());
            }
            if is_check {
                // Of several that don't make a list the last one counts.
                let first = if flag.kind.is_list() { 0 } else { texts.len() - 1 };
                for text in &texts[first..] {
                    settings.extend([option.as_str(), "=", text, "\n"]);
                }
            }
        }
        #[cfg(feature = "tls")]
        config.check_tls()?;
        if is_check {
            return Ok(Command::Check(config, settings));
        }
        Ok(Command::Serve(config))
    }

    /// Whoever wants TLS has said with which certificate.
    #[cfg(feature = "tls")]
    fn check_tls(&self) -> Result<(), ConfigError> {
        let mut listeners = self.listen.iter().chain(&self.metrics_listen);
        if listeners.any(|listen| matches!(listen, Listen::Tls(_))) {
            self.tls_cert.as_ref().ok_or(ConfigError::NoTlsFile("--tls-cert"))?;
            self.tls_key.as_ref().ok_or(ConfigError::NoTlsFile("--tls-key"))?;
        }
        Ok(())
    }
}

impl Default for Config {
    /// What no flag and no variable gives.
    fn default() -> Config {
        // Blank, so that the table alone says what the defaults are.
        let mut config = Config {
            listen: Vec::new(),
            listen_by_default: true,
            tls_cert: None,
            tls_key: None,
            session_ttl: Duration::ZERO,
            room_ttl: Duration::ZERO,
            new_room_ttl: Duration::ZERO,
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
            address_connections_max: None,
            trusted_proxies: Vec::new(),
            connections_max: None,
            sessions_max: 0,
            rooms_max: 0,
            memory_bytes_max: 0,
            outbox_bytes_max: 0,
            cors_origins: Vec::new(),
            metrics_listen: Vec::new(),
            state: None,
            log: LevelFilter::Off,
        };
        for flag in FLAGS {
            // A default has its own flag's form and range, or every test would fail.
            flag.apply(&mut config, &flag.option(), &[flag.default.to_owned()])
                .unwrap_or_else(|error| panic!("{error}"));
        }
        config.listen_by_default = true;
        config
    }
}

/// `--help`: every line at most [`COLUMNS`] wide.
fn help() -> String {
    let mut text = String::from(
        "Disposable Chat: anonymous, temporary chat rooms over REST and WebSockets\n\n\
         Usage: disposable-chat [check] [FLAG VALUE]...\n\n\
         check: print what the flags and variables given come to, and what the machine allows, and\n\
         leave with 0, or with 2 if one of them is wrong\n\n",
    );
    let label = |flag: &Flag| format!("  {} {}", flag.option(), flag.kind.placeholder());
    let indent = FLAGS.iter().map(|flag| label(flag).len()).max().unwrap_or(0) + 2;
    let mut row = |label: &str, help: &str| {
        let mut line = format!("{label:indent$}");
        let mut blank = true;
        for word in help.split(' ') {
            if !blank && line.len() + 1 + word.len() > COLUMNS {
                text.push_str(&line);
                text.push('\n');
                line = " ".repeat(indent);
                blank = true;
            }
            if !blank {
                line.push(' ');
            }
            line.push_str(word);
            blank = false;
        }
        text.push_str(&line);
        text.push('\n');
    };
    for flag in FLAGS {
        row(&label(flag), flag.help);
        row("", &format!("[default: {}] [variable: {}]", flag.default, flag.variable()));
    }
    row("  -h, --help", "Print this");
    row("  -V, --version", "Print name and version");
    text.push_str(
        "\n\
         TIME is 90, 90s, 2m, 24h, 7d, 500ms or 0.5s. SIZE is 65536, 64K, 64M or 2G.\n\
         A flag wins over its variable; an empty variable counts as not set. What is repeatable\n\
         as a flag is a list with commas as a variable, and one flag replaces the whole list.\n",
    );
    text
}

const COLUMNS: usize = 100;

impl Flag {
    /// All that the environment gives the flag, and the variable that does; nothing if none.
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
            None => {
                if let FlagKind::Listen = self.kind {
                    // What platforms set that run a program as they find it; they reach it from
                    // outside, so loopback would not do.
                    if let Some(text) = read("PORT")? {
                        let port = port(&text)
                            .map_err(|fault| ConfigError::bad_value("PORT", &text, fault))?;
                        texts.push(format!("0.0.0.0:{port}"));
                    }
                }
            }
        }
        Ok((variable, texts))
    }
}

fn utf8(source: &str, value: OsString) -> Result<String, ConfigError> {
    value.into_string().map_err(|raw| {
        ConfigError::bad_value(source, &raw.to_string_lossy(), Fault::Form("valid UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Command, String> {
        let env = |name: &str| {
            env.iter().find(|(given, _)| *given == name).map(|(_, value)| OsString::from(value))
        };
        Config::parse(args.iter().map(OsString::from), env).map_err(|error| error.to_string())
    }

    fn serve(args: &[&str], env: &[(&str, &str)]) -> Result<Config, String> {
        match parse(args, env)? {
            Command::Serve(config) => Ok(config),
            other => panic!("{args:?} {env:?} asks for {other:?}"),
        }
    }

    type Read = fn(&Config) -> String;

    /// Flag; its field; the field's default; a text and what the field is then; texts out of
    /// range and that range; a text of the wrong form.
    type Case = (
        &'static str,
        Read,
        &'static str,
        [&'static str; 2],
        &'static [&'static str],
        &'static str,
        &'static str,
    );

    const CASES: &[Case] = &[
        (
            "listen",
            |c| format!("{:?}", c.listen),
            "[Tcp(127.0.0.1:8000)]",
            ["[::1]:0", "[Tcp([::1]:0)]"],
            &[],
            "",
            "8000",
        ),
        ("tls-cert", |c| format!("{:?}", c.tls_cert), "None", ["/c", "Some(\"/c\")"], &[], "", ""),
        ("tls-key", |c| format!("{:?}", c.tls_key), "None", ["k", "Some(\"k\")"], &[], "", ""),
        ("session-ttl", |c| ms(c.session_ttl), "86400000", ["2h", "7200000"], &["0"], YEARS, "1y"),
        ("room-ttl", |c| ms(c.room_ttl), "120000", ["0.25", "250"], &["0s"], YEARS, "5x"),
        ("new-room-ttl", |c| ms(c.new_room_ttl), "600000", ["90", "90000"], &["0"], YEARS, ""),
        ("leave-grace", |c| ms(c.leave_grace), "3000", ["0", "0"], &["3651d"], GRACE, "-1"),
        ("header-timeout", |c| ms(c.header_timeout), "10000", ["1ms", "1"], &["0"], YEARS, "1 s"),
        ("body-timeout", |c| ms(c.body_timeout), "20000", ["9s", "9000"], &["0"], YEARS, "9S"),
        ("idle-timeout", |c| ms(c.idle_timeout), "60000", ["3m", "180000"], &["0"], YEARS, "1."),
        ("linger-timeout", |c| ms(c.linger_timeout), "2000", ["0.5s", "500"], &["0"], YEARS, ".5"),
        ("ping-interval", |c| ms(c.ping_interval), "20000", ["1h", "3600000"], &["0"], YEARS, "h"),
        ("ping-timeout", |c| ms(c.ping_timeout), "20000", ["1", "1000"], &["0"], YEARS, "1,5"),
        ("probe-timeout", |c| ms(c.probe_timeout), "3000", ["2", "2000"], &["0"], YEARS, "1.2.3"),
        (
            "history",
            |c| c.history_messages_max.to_string(),
            "1000",
            ["0", "0"],
            &["1000001"],
            "0 to 1000000",
            "1K",
        ),
        (
            "message-rate",
            |c| c.message_rate.per_second.to_string(),
            "10",
            ["0", "0"],
            &["10000001", "99999999999999999999999999999999999999999999"],
            "0 to 10000000",
            "0.5",
        ),
        (
            "message-burst",
            |c| c.message_rate.burst.to_string(),
            "40",
            ["1", "1"],
            &["0"],
            "1 to 10000000",
            "+1",
        ),
        (
            "session-rate",
            |c| format!("{} {}", c.session_rate.per_second, c.session_rate.burst),
            "2 60",
            ["0", "0 60"],
            &["10000001"],
            "0 to 10000000",
            "-1",
        ),
        (
            "room-rate",
            |c| format!("{} {}", c.room_rate.per_second, c.room_rate.burst),
            "2 60",
            ["7", "7 60"],
            &["10000001"],
            "0 to 10000000",
            "1.0",
        ),
        ("guess-rate", |c| c.guess_rate.to_string(), "6", ["0", "0"], &["10000001"], WHOLE, "6/m"),
        (
            "address-connections",
            |c| format!("{:?}", c.address_connections_max),
            "Some(200)",
            ["0", "None"],
            &["10000001"],
            "0 to 10000000",
            "many",
        ),
        (
            "trusted-proxy",
            |c| format!("{:?}", c.trusted_proxies),
            "[]",
            ["10.1.2.3/8", "[Cidr { address: 10.1.2.3, prefix: 8 }]"],
            &["10.0.0.0/33"],
            "its prefix: 0 to 32",
            "10.0.0.0/",
        ),
        (
            "max-connections",
            |c| format!("{:?}", c.connections_max),
            "None",
            ["5", "Some(5)"],
            &["10000001"],
            "0 to 10000000",
            "auto",
        ),
        (
            "max-sessions",
            |c| c.sessions_max.to_string(),
            "100000",
            ["1", "1"],
            &["0"],
            "1 to 10000000",
            "x",
        ),
        (
            "max-rooms",
            |c| c.rooms_max.to_string(),
            "100000",
            ["10000000", "10000000"],
            &["0", "10000001"],
            "1 to 10000000",
            "٣",
        ),
        (
            "max-memory",
            |c| c.memory_bytes_max.to_string(),
            "268435456",
            ["64m", "67108864"],
            &["1048575", "99999999999999999999999999999999999999G"],
            if cfg!(target_pointer_width = "64") { "1M to 1024G" } else { "1M to 2G" },
            "64MiB",
        ),
        (
            "outbox",
            |c| c.outbox_bytes_max.to_string(),
            "262144",
            ["64k", "65536"],
            &["65535", "2G", "99999999999999999999999999999999999999G"],
            "64K to 1G",
            "64KiB",
        ),
        (
            "cors-origin",
            |c| format!("{:?}", c.cors_origins),
            "[]",
            ["HTTPS://Chat.Example:8443", "[\"https://chat.example:8443\"]"],
            &[],
            "",
            "chat.example",
        ),
        (
            "metrics-listen",
            |c| format!("{:?}", c.metrics_listen),
            "[]",
            ["localhost:9100", "[Tcp(127.0.0.1:9100)]"],
            &[],
            "",
            "None",
        ),
        ("state", |c| format!("{:?}", c.state), "None", ["/s", "Some(\"/s\")"], &[], "", ""),
        ("log", |c| c.log.to_string(), "INFO", ["debug", "DEBUG"], &[], "", "trace"),
    ];
    const YEARS: &str = "1ms to 3650d";
    const GRACE: &str = "0 to 3650d";
    const WHOLE: &str = "0 to 10000000";

    fn ms(duration: Duration) -> String {
        duration.as_millis().to_string()
    }

    // contract §12.1 §12.5 §12.8 §12.11 §12.12 §12.13 §12.14 §12.15 §12.16 §12.17 §12.18 §12.20
    // contract §12.21 §12.22 §12.23 §12.24
    #[test]
    fn every_flag_works_as_flag_and_as_variable() {
        let names: Vec<&str> = CASES.iter().map(|case| case.0).collect();
        assert_eq!(names, FLAGS.iter().map(|flag| flag.name).collect::<Vec<_>>());

        for ((_, read, default, [text, value], outside, range, wrong), flag) in
            CASES.iter().zip(FLAGS)
        {
            let (option, variable) = (flag.option(), flag.variable());
            assert_eq!(read(&Config::default()), *default, "{option}");
            assert_ne!(default, value, "{option}");
            let by_flag = serve(&[&option, text], &[]).unwrap();
            assert_eq!(read(&by_flag), *value, "{option}");
            assert_eq!(serve(&[&format!("{option}={text}")], &[]).unwrap(), by_flag);
            assert_eq!(serve(&[], &[(&variable, text)]).unwrap(), by_flag);
            assert_eq!(serve(&[&option, text], &[(&variable, wrong)]).unwrap(), by_flag);
            let by_default = serve(&[&option, flag.default], &[(&variable, text)]).unwrap();
            assert_eq!(by_default.listen_by_default, flag.name != "listen");
            assert_eq!(Config { listen_by_default: true, ..by_default }, Config::default());
            assert_eq!(serve(&[], &[(&variable, "")]), serve(&[], &[]));

            for source in [&option, &variable] {
                let error = |text: &str| match source == &option {
                    true => parse(&[&option, text], &[]).unwrap_err(),
                    false => parse(&[], &[(&variable, text)]).unwrap_err(),
                };
                for outside in *outside {
                    let line = format!("{source}: {outside:?} is out of range ({range})");
                    assert_eq!(error(outside), line);
                }
                if source == &option || !wrong.is_empty() {
                    let (line, start) = (error(wrong), format!("{source}: {wrong:?} is not a"));
                    assert!(line.starts_with(&start), "{line}");
                    assert!(line.len() <= 160 && !line.contains('\n'), "{line}");
                }
            }
            let missing = parse(&[&option], &[]).unwrap_err();
            assert_eq!(missing, format!("{option} needs a value (see --help)"));
        }
    }

    #[test]
    fn each_flag_sets_its_own_field_only() {
        for (&(name, _, _, [text, _], ..), flag) in CASES.iter().zip(FLAGS) {
            let config = serve(&[&flag.option(), text], &[]).unwrap();
            for (other, read, default, ..) in CASES {
                assert_eq!(read(&config) == *default, *other != name, "{name} and {other}");
            }
        }
    }

    #[test]
    fn defaults_are_what_nothing_gives() {
        assert_eq!(serve(&[], &[("CHAT_UNHEARD_OF", "x"), ("PORT", "")]), Ok(Config::default()));
    }

    #[test]
    fn the_last_flag_wins_and_lists_add_up() {
        assert_eq!(ms(serve(&["--room-ttl=1", "--room-ttl=2"], &[]).unwrap().room_ttl), "2000");
        let two = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
        assert_eq!(serve(&two, &[("CHAT_LISTEN", "[::1]:1")]).unwrap().listen.len(), 2);

        let list = serve(&[], &[("CHAT_LISTEN", "127.0.0.1:1, unix:/a b")]).unwrap().listen;
        let tcp = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 1)));
        assert_eq!(list, [tcp, Listen::Unix("/a b".into())]);
        let error = parse(&[], &[("CHAT_LISTEN", "127.0.0.1:1,")]).unwrap_err();
        assert!(error.starts_with("CHAT_LISTEN: \"\" is not an address ("), "{error}");

        let none = serve(&["--trusted-proxy", "none"], &[("CHAT_TRUSTED_PROXY", "::1")]);
        assert_eq!(none, Ok(Config::default()));
        let none = serve(&["--metrics-listen=none"], &[("CHAT_METRICS_LISTEN", "[::1]:1")]);
        assert_eq!(none, Ok(Config::default()));
        let two = serve(&[], &[("CHAT_METRICS_LISTEN", "unix:/a,localhost:0")]).unwrap();
        assert_eq!(two.metrics_listen.len(), 2);
        let any = serve(&["--cors-origin=http://a", "--cors-origin=*"], &[]);
        assert_eq!(any, Ok(Config::default()));
    }

    // contract §12.6
    #[test]
    fn port_alone_means_every_address() {
        let port = ("PORT", "9000");
        let listen = |args: &[&str], env: &[(&str, &str)]| serve(args, env).unwrap().listen;
        let everywhere = [Listen::Tcp(SocketAddr::from(([0, 0, 0, 0], 9000)))];
        let local = [Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 1)))];
        assert_eq!(listen(&[], &[port]), everywhere);
        assert_eq!(listen(&[], &[port, ("CHAT_LISTEN", "")]), everywhere);
        assert_eq!(listen(&[], &[port, ("CHAT_LISTEN", "127.0.0.1:1")]), local);
        assert_eq!(listen(&["--listen=127.0.0.1:1"], &[("PORT", "x")]), local);
        for bad in ["x", "65536", "-1", "+1"] {
            let line = format!("PORT: {bad:?} is not a port (0 to 65535)");
            assert_eq!(parse(&[], &[("PORT", bad)]), Err(line));
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_needs_its_feature() {
        let line = "--listen: \"tls:[::]:443\" needs a build with the feature `tls` \
                    (cargo build --features tls)";
        assert_eq!(parse(&["--listen", "tls:[::]:443"], &[]), Err(line.to_owned()));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn tls_needs_a_certificate_and_its_key() {
        let line = |flag| Err(format!("--listen tls:ADDRESS needs {flag} FILE (see --help)"));
        let (cert, key) = ("--tls-cert=/c", "--tls-key=/k");
        for listen in ["--listen=tls:[::1]:1", "--metrics-listen=tls:[::1]:1"] {
            assert_eq!(parse(&[listen], &[]), line("--tls-cert"));
            assert_eq!(parse(&[listen, cert], &[]), line("--tls-key"));
            assert_eq!(parse(&[listen, key], &[("CHAT_TLS_CERT", "none")]), line("--tls-cert"));
            assert!(serve(&[listen, cert], &[("CHAT_TLS_KEY", "/k")]).is_ok());
        }
        let both = serve(&["--listen=tls:[::1]:1", "--listen=[::1]:1", cert, key], &[]).unwrap();
        let address = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 1));
        assert_eq!(both.listen, [Listen::Tls(address), Listen::Tcp(address)]);
    }

    // contract §12.4
    #[test]
    fn help_has_every_flag_and_fits() {
        for args in [&["--help"][..], &["-h"], &["--room-ttl", "5x", "--help"]] {
            assert_eq!(parse(args, &[("CHAT_LOG", "x")]), Ok(Command::Help(help())));
        }
        let help = help();
        for flag in FLAGS {
            let label = format!("\n  {} {}  ", flag.option(), flag.kind.placeholder());
            let end = format!("[default: {}] [variable: {}]\n", flag.default, flag.variable());
            assert!(help.contains(&label) && help.contains(&end), "{}\n{help}", flag.name);
        }
        for line in help.lines() {
            assert!(line.len() <= COLUMNS && line.trim_end() == line && line.is_ascii(), "{line}");
        }
    }

    // contract §12.3 §12.5
    #[test]
    fn what_is_no_flag_is_one_clear_line() {
        let check = |args: &[&str], line: &str| assert_eq!(parse(args, &[]).unwrap_err(), line);
        check(&["--nope"], "\"--nope\" is not a flag (see --help)");
        check(&["--no\npe=1"], "\"--no\\npe\" is not a flag (see --help)");
        check(&["-x"], "\"-x\" is not a flag (see --help)");
        check(&["serve"], "\"serve\" is not expected here (see --help)");
        check(&["--", "--log=off"], "\"--log=off\" is not expected here (see --help)");
        check(&["--log", "off", "on"], "\"on\" is not expected here (see --help)");
        check(&["--room-ttl", "5x"], "--room-ttl: \"5x\" is not a duration (90, 90s, 2m, 24h)");
        check(
            &["--listen", "chat.example:80"],
            "--listen: \"chat.example:80\" has a host name, and none is looked up: give an IP address",
        );
        check(&["--history", "--log"], "--history: \"--log\" is not a whole number");
        assert_eq!(parse(&["--version"], &[]), Ok(Command::Version));
        assert_eq!(parse(&["-V"], &[]), Ok(Command::Version));
    }

    #[test]
    fn check_says_what_could_be_given_again() {
        let check = |args: &[&str], env: &[(&str, &str)]| match parse(args, env) {
            Ok(Command::Check(config, settings)) => (config, settings),
            other => panic!("{other:?}"),
        };
        let (config, settings) = check(&["check"], &[]);
        assert_eq!(config, Config::default());
        let defaults = FLAGS.iter().map(|flag| format!("{}={}", flag.option(), flag.default));
        assert_eq!(settings.lines().collect::<Vec<_>>(), defaults.collect::<Vec<_>>());

        let env =
            [("CHAT_TRUSTED_PROXY", "::1, 10.0.0.0/8"), ("PORT", "9000"), ("CHAT_LOG", "off")];
        let args = ["--room-ttl=5m", "check", "--history", "7", "--room-ttl", "0.25", "--log=warn"];
        let (config, settings) = check(&args, &env);
        for line in ["--listen=0.0.0.0:9000", "--room-ttl=0.25", "--history=7", "--log=warn"] {
            assert!(settings.lines().any(|one| one == line), "{line}\n{settings}");
        }
        assert!(settings.contains("\n--trusted-proxy=::1\n--trusted-proxy=10.0.0.0/8\n"));
        assert_eq!(settings.lines().count(), FLAGS.len() + 1);
        assert_eq!(serve(&settings.lines().collect::<Vec<_>>(), &[]), Ok(config));

        for ((_, _, _, [text, _], ..), flag) in CASES.iter().zip(FLAGS) {
            let (mut config, settings) = check(&["check", &flag.option(), text], &[]);
            config.listen_by_default = false;
            assert_eq!(serve(&settings.lines().collect::<Vec<_>>(), &[]), Ok(config));
        }
        let line = "--room-ttl: \"5x\" is not a duration (90, 90s, 2m, 24h)";
        assert_eq!(parse(&["check", "--room-ttl", "5x"], &[]), Err(line.to_owned()));
        let line = "\"check\" is not expected here (see --help)";
        assert_eq!(parse(&["check", "check"], &[]), Err(line.to_owned()));
    }

    #[test]
    fn values_that_are_not_utf8_are_one_clear_line() {
        use std::os::unix::ffi::OsStringExt;
        let raw = || OsString::from_vec(b"a\xffb".to_vec());
        let by_flag = Config::parse([OsString::from("--listen"), raw()].into_iter(), |_| None);
        let line = "--listen: \"a\u{fffd}b\" is not valid UTF-8";
        assert_eq!(by_flag.unwrap_err().to_string(), line);
        let env = |name: &str| (name == "PORT").then(raw);
        let by_variable = Config::parse(std::iter::empty(), env);
        let line = "PORT: \"a\u{fffd}b\" is not valid UTF-8";
        assert_eq!(by_variable.unwrap_err().to_string(), line);
        let ignored = Config::parse([OsString::from("--listen=[::1]:1")].into_iter(), env);
        assert!(ignored.is_ok());
    }
}
