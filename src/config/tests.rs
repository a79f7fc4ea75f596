//! Flags, variables and help, through [`Config::parse`].

use std::ffi::OsString;
use std::net::SocketAddr;

use super::help::{COLUMNS, help};
use super::*;

fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Task, String> {
    let env = |name: &str| {
        env.iter().find(|(given, _)| *given == name).map(|(_, value)| OsString::from(value))
    };
    Config::parse(args.iter().map(OsString::from), env).map_err(|error| error.to_string())
}

fn serve(args: &[&str], env: &[(&str, &str)]) -> Result<Config, String> {
    match parse(args, env)? {
        Task::Serve(config) => Ok(config),
        other => panic!("{args:?} {env:?} asks for {other:?}"),
    }
}

type Read = fn(&Config) -> String;

/// A flag; how its field is displayed; the field's default; a value, and the field after it is set;
/// values out of range, and the range; a value of the wrong form.
type FlagCase = (
    &'static str,
    Read,
    &'static str,
    [&'static str; 2],
    &'static [&'static str],
    &'static str,
    &'static str,
);

const CASES: &[FlagCase] = &[
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
        ["localhost:9100", "[Localhost { port: 9100, has_tls: false }]"],
        &[],
        "",
        "None",
    ),
    (
        "admin-listen",
        |c| format!("{:?}", c.admin_listen),
        "[]",
        ["unix:/a", "[Unix(\"/a\")]"],
        &[],
        "",
        "0.0.0.0:9200",
    ),
    ("session-ttl", |c| ms(c.session_ttl), "86400000", ["2h", "7200000"], &["0"], YEARS, "1y"),
    ("room-ttl", |c| ms(c.room_ttl), "120000", ["0.25", "250"], &["0s"], YEARS, "5x"),
    ("new-room-ttl", |c| ms(c.new_room_ttl), "600000", ["90", "90000"], &["0"], YEARS, ""),
    (
        "room-life-max",
        |c| ms(c.room_life_max),
        "604800000",
        ["1h", "3600000"],
        &["59s"],
        "1m to 3650d",
        "week",
    ),
    ("leave-grace", |c| ms(c.leave_grace), "3000", ["0", "0"], &["3651d"], GRACE, "-1"),
    ("header-timeout", |c| ms(c.header_timeout), "10000", ["1ms", "1"], &["0"], YEARS, "1 s"),
    ("body-timeout", |c| ms(c.body_timeout), "20000", ["9s", "9000"], &["0"], YEARS, "9S"),
    ("idle-timeout", |c| ms(c.idle_timeout), "75000", ["3m", "180000"], &["0"], YEARS, "1."),
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
        "room-guess-rate",
        |c| c.room_guess_rate.to_string(),
        "60",
        ["0", "0"],
        &["10000001"],
        WHOLE,
        "1s",
    ),
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
        "address-sessions",
        |c| format!("{:?}", c.address_sessions_max),
        "Some(2000)",
        ["0", "None"],
        &["10000001"],
        "0 to 10000000",
        "few",
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
    #[cfg(feature = "cluster")]
    (
        "cluster",
        |c| format!("{:?}", c.cluster),
        "None",
        ["@/store", "Some(File(\"/store\"))"],
        &[],
        "",
        "redis://",
    ),
    #[cfg(feature = "cluster")]
    (
        "cluster-secret",
        |c| format!("{:?}", c.cluster_secret),
        "None",
        ["/s", "Some(\"/s\")"],
        &[],
        "",
        "",
    ),
    #[cfg(feature = "cluster")]
    ("cluster-prefix", |c| c.cluster_prefix.clone(), "dc", ["a_B-1", "a_B-1"], &[], "", "a b"),
    #[cfg(feature = "cluster")]
    (
        "cluster-partitions",
        |c| c.cluster_partitions.to_string(),
        "1",
        ["256", "256"],
        &["0", "257"],
        "1 to 256",
        "one",
    ),
    #[cfg(feature = "cluster")]
    ("cluster-timeout", |c| ms(c.cluster_timeout), "5000", ["2s", "2000"], &["0"], YEARS, "x"),
    #[cfg(feature = "cluster")]
    ("cluster-lease", |c| ms(c.cluster_lease), "10000", ["20", "20000"], &["0"], YEARS, "x"),
    #[cfg(feature = "cluster")]
    ("cluster-patience", |c| ms(c.cluster_patience), "30000", ["1m", "60000"], &["0"], YEARS, "x"),
    ("state", |c| format!("{:?}", c.state), "None", ["/s", "Some(\"/s\")"], &[], "", ""),
    ("log", |c| c.log.to_string(), "INFO", ["debug", "DEBUG"], &[], "", "trace"),
];
const YEARS: &str = "1ms to 3650d";
const GRACE: &str = "0 to 3650d";
const WHOLE: &str = "0 to 10000000";

/// The flags that have an effect in this build.
fn flags() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().filter(|flag| flag.missing_feature().is_none())
}

fn ms(duration: Duration) -> String {
    duration.as_millis().to_string()
}

// contract §12.1 §12.5 §12.8 §12.11 §12.12 §12.13 §12.14 §12.15 §12.16 §12.17 §12.18 §12.20
// contract §12.21 §12.22 §12.23 §12.24
#[test]
fn every_flag_works_as_flag_and_as_variable() {
    let names: Vec<&str> = CASES.iter().map(|case| case.0).collect();
    assert_eq!(names, flags().map(|flag| flag.name).collect::<Vec<_>>());

    for ((_, read, default, [text, value], outside, range, wrong), flag) in
        CASES.iter().zip(flags())
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
fn each_flag_sets_only_its_own_field() {
    for (&(name, _, _, [text, _], ..), flag) in CASES.iter().zip(flags()) {
        let config = serve(&[&flag.option(), text], &[]).unwrap();
        for (other, read, default, ..) in CASES {
            assert_eq!(read(&config) == *default, *other != name, "{name} and {other}");
        }
    }
}

#[test]
fn without_flags_and_variables_the_defaults_apply() {
    assert_eq!(serve(&[], &[("CHAT_UNHEARD_OF", "x"), ("PORT", "")]), Ok(Config::default()));
}

#[test]
fn the_last_value_counts_and_lists_add_up() {
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
    let local = "127.0.0.2:1,[::1]:0,localhost:1,[::ffff:127.0.0.1]:1";
    assert_eq!(serve(&[], &[("CHAT_ADMIN_LISTEN", local)]).unwrap().admin_listen.len(), 4);
    for wrong in ["proxy:127.0.0.1:1", "proxy:unix:/a", "[::]:1", "10.0.0.1:1"] {
        assert!(parse(&["--admin-listen", wrong], &[]).is_err(), "{wrong}");
    }
    let any = serve(&["--cors-origin=http://a", "--cors-origin=*"], &[]);
    assert_eq!(any, Ok(Config::default()));
}

// contract §12.6
#[test]
fn the_variable_port_means_all_ipv4_addresses() {
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

#[cfg(not(feature = "cluster"))]
#[test]
fn a_cluster_needs_the_feature() {
    let needs = "needs a build with the feature `cluster` (cargo build --features cluster)";
    let line = |source, text| Err(format!("{source}: {text:?} {needs}"));
    let url = "redis://chat:secret@127.0.0.1";
    assert_eq!(parse(&["--cluster", url], &[]), line("--cluster", "…"));
    assert_eq!(parse(&["check"], &[("CHAT_CLUSTER", url)]), line("CHAT_CLUSTER", "…"));
    assert_eq!(parse(&["--cluster-partitions=1"], &[]), line("--cluster-partitions", "1"));
    let left = FLAGS.iter().filter(|flag| flag.name.starts_with("cluster"));
    for flag in left {
        assert!(parse(&[&flag.option(), flag.default], &[]).is_err(), "{}", flag.name);
    }
}

#[cfg(feature = "cluster")]
#[test]
fn a_cluster_has_no_state_file_and_a_lease_longer_than_the_timeout() {
    let cluster = "--cluster=redis://127.0.0.1";
    let state = "--state and --cluster exclude each other: the store keeps the state";
    assert_eq!(parse(&[cluster, "--state=/s"], &[]), Err(state.to_owned()));
    assert_eq!(parse(&[cluster], &[("CHAT_STATE", "/s")]), Err(state.to_owned()));
    assert!(parse(&["--cluster=none", "--state=/s"], &[]).is_ok());
    let lease = "--cluster-lease must be longer than --cluster-timeout";
    assert_eq!(parse(&[cluster, "--cluster-timeout=10s"], &[]), Err(lease.to_owned()));
    assert!(parse(&[cluster, "--cluster-timeout=9999ms"], &[]).is_ok());
}

#[cfg(feature = "cluster")]
#[test]
fn no_password_is_printed() {
    let url = "redis://chat:hunter2@127.0.0.1/1";
    let Ok(Task::Check(config, settings)) = parse(&["check", "--cluster", url], &[]) else {
        panic!("it is valid")
    };
    assert!(settings.contains("--cluster=redis://…@127.0.0.1/1\n"), "{settings}");
    assert!(!format!("{config:?} {settings}").contains("hunter2"));
    let error = parse(&["--cluster", "redis://chat:hunter2@store"], &[]).unwrap_err();
    let line = "--cluster: \"redis://…@store\" has a host name, which is never looked up; give an IP address";
    assert_eq!(error, line);
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_tls_address_needs_the_feature() {
    let line = "--listen: \"tls:[::]:443\" needs a build with the feature `tls` \
                (cargo build --features tls)";
    assert_eq!(parse(&["--listen", "tls:[::]:443"], &[]), Err(line.to_owned()));
}

#[cfg(feature = "tls")]
#[test]
fn a_tls_address_needs_a_certificate_and_its_key() {
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
fn help_is_in_groups_whose_examples_are_valid() {
    let help = help();
    assert_eq!(FLAG_GROUPS[0].first, FLAGS[0].name);
    let mut place = 0;
    for group in FLAG_GROUPS {
        let heading = format!("\n\n{}, for example:\n", group.title);
        let found = help.find(&heading).unwrap();
        assert!(found > place && FLAGS.iter().any(|flag| flag.name == group.first), "{heading}");
        place = found;
        assert!(!group.examples.is_empty(), "{heading}");
        for example in group.examples {
            assert!(help.contains(&format!("\n  disposable-chat {example}\n")), "{example}");
            let args: Vec<&str> = example.split(' ').collect();
            let is_possible = flags().any(|flag| flag.name == group.first);
            assert_eq!(serve(&args, &[]).is_ok(), is_possible, "{example}");
        }
    }
}

// contract §12.4
#[test]
fn help_shows_every_flag_within_its_width() {
    for args in [&["--help"][..], &["-h"], &["--room-ttl", "5x", "--help"]] {
        assert_eq!(parse(args, &[("CHAT_LOG", "x")]), Ok(Task::Help(help())));
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
fn an_invalid_command_line_is_reported_in_one_line() {
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
        "--listen: \"chat.example:80\" has a host name, which is never looked up; give an IP address",
    );
    check(
        &["--cors-origin", "chat.example"],
        "--cors-origin: \"chat.example\" is not an origin (https://chat.example, \
         http://localhost:5173, null or *; no path, no final slash, no default port)",
    );
    check(&["--history", "--log"], "--history: \"--log\" is not a whole number");
    assert_eq!(parse(&["--version"], &[]), Ok(Task::Version));
    assert_eq!(parse(&["-V"], &[]), Ok(Task::Version));
}

#[test]
fn check_prints_flags_that_give_the_same_settings() {
    let check = |args: &[&str], env: &[(&str, &str)]| match parse(args, env) {
        Ok(Task::Check(config, settings)) => (config, settings),
        other => panic!("{other:?}"),
    };
    let (config, settings) = check(&["check"], &[]);
    assert_eq!(config, Config::default());
    let defaults = flags().map(|flag| format!("{}={}", flag.option(), flag.default));
    assert_eq!(settings.lines().collect::<Vec<_>>(), defaults.collect::<Vec<_>>());

    let env = [("CHAT_TRUSTED_PROXY", "::1, 10.0.0.0/8"), ("PORT", "9000"), ("CHAT_LOG", "off")];
    let args = ["--room-ttl=5m", "check", "--history", "7", "--room-ttl", "0.25", "--log=warn"];
    let (config, settings) = check(&args, &env);
    for line in ["--listen=0.0.0.0:9000", "--room-ttl=0.25", "--history=7", "--log=warn"] {
        assert!(settings.lines().any(|one| one == line), "{line}\n{settings}");
    }
    assert!(settings.contains("\n--trusted-proxy=::1\n--trusted-proxy=10.0.0.0/8\n"));
    assert_eq!(settings.lines().count(), flags().count() + 1);
    assert_eq!(serve(&settings.lines().collect::<Vec<_>>(), &[]), Ok(config));

    for ((_, _, _, [text, _], ..), flag) in CASES.iter().zip(flags()) {
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
fn a_value_that_is_not_utf8_is_reported_in_one_line() {
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
