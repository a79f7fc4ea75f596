//! The files that a package installs beside the program: the manual page, generated here from the table of flags, and
//! the systemd units, which must agree with that table and with each other. And the recipe of a container image.
//!
//! `WRITE_MANUAL=1 cargo test --test dist` writes the manual page again.

use std::env;
use std::fmt::Write as _;
use std::fs;

use disposable_chat::config::{Config, FLAG_GROUPS, FLAGS, Listen, Task};

const PAGE: &str = "src/dist/disposable-chat.1";
const SERVICE: &str = "src/dist/disposable-chat.service";
const SOCKET: &str = "src/dist/disposable-chat.socket";
const TEMPLATE: &str = "src/dist/disposable-chat@.service";
const CONTAINERFILE: &str = "src/dist/Containerfile";

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

// The manual page.

#[test]
fn the_manual_page_agrees_with_help() {
    if env::var_os("WRITE_MANUAL").is_some_and(|value| value == "1") {
        fs::write(PAGE, page()).expect("it can be written");
    }
    assert!(read(PAGE) == page(), "{PAGE} is out of date: WRITE_MANUAL=1 cargo test --test dist");
}

fn page() -> String {
    let mut page = format!(
        ".\\\" Made by tests/dist/main.rs: WRITE_MANUAL=1 cargo test --test dist\n\
         .TH DISPOSABLE\\-CHAT 1 \"\" \"disposable\\-chat {}\" \"User Commands\"\n\
         .nh\n.ad l\n",
        env!("CARGO_PKG_VERSION")
    );
    page.push_str(BEFORE);
    for flag in FLAGS {
        if let Some(group) = FLAG_GROUPS.iter().find(|group| group.first == flag.name) {
            writeln!(page, ".SS {}", escaped(group.title)).expect("a String takes it");
        }
        let label = format!("{} {}", flag.option(), flag.kind.placeholder());
        let notes = format!("Default: {}. Variable: {}.", flag.default, flag.variable());
        entry(&mut page, &label, &format!("{}.\n{notes}", flag.help));
    }
    page.push_str(".SS The program\n");
    entry(&mut page, "-h, --help", "Print a summary of these options.");
    entry(&mut page, "-V, --version", "Print name and version.");
    page.push_str(".PP\n");
    page.push_str(&escaped(&values()));
    page.push_str(".SH EXAMPLES\n.EX\n");
    for example in FLAG_GROUPS.iter().flat_map(|group| group.examples) {
        writeln!(page, "disposable\\-chat {}", escaped(example)).expect("a String takes it");
    }
    page.push_str(".EE\n");
    page.push_str(AFTER);
    page
}

/// The last part of `--help`, about the forms of values.
fn values() -> String {
    match Config::parse(["--help".into()].into_iter(), |_| None) {
        Ok(Task::Help(text)) => text.rsplit("\n\n").next().expect("a last part").to_owned(),
        other => panic!("{other:?}"),
    }
}

fn entry(page: &mut String, label: &str, text: &str) {
    writeln!(page, ".TP\n.B {}\n{}", escaped(label), escaped(text)).expect("a String takes it");
}

/// Escapes dashes, and lines that roff would read as requests (groff_char(7)).
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    text.replace("\n.", "\n\\&.").replace("\n'", "\n\\&'")
}

const BEFORE: &str = r#".SH NAME
disposable\-chat \- anonymous, temporary chat rooms over REST and WebSockets
.SH SYNOPSIS
.B disposable\-chat
.RB [ check ]
.RI [ "FLAG VALUE" ]...
.SH DESCRIPTION
A server for chat rooms without accounts that writes nothing to disk.
A person picks a name, opens a room and sends its link to others; an unused room is deleted.
The chat page is at /, the documentation of the API at /docs.
.PP
With
.BR check ,
the server is not started.
The program prints the settings that its flags and variables result in, as one flag per line, and the limits of the
machine: how many connections the descriptor limit allows, and a warning if the memory is less than 4/3 of
.BR \-\-max\-memory .
It reads no file that a flag names and tries no address.
.SH OPTIONS
"#;

const AFTER: &str = r#".SH ENVIRONMENT
Each flag has a variable, whose name is given above.
.TP
.B PORT
Without
.B \-\-listen
and
.BR CHAT_LISTEN ,
the server listens on this port of 0.0.0.0.
.TP
.BR LISTEN_FDS ", " LISTEN_PID ", " LISTEN_FDNAMES
Listening sockets passed by the service manager, see
.BR sd_listen_fds (3).
They replace the default of
.BR \-\-listen ;
addresses that are set explicitly are added to them.
A socket with the name
.I metrics
answers requests for the metrics only.
.TP
.BR NOTIFY_SOCKET ", " WATCHDOG_USEC ", " WATCHDOG_PID
The service manager is told when the server is ready and when it stops, and regularly that it is alive, see
.BR sd_notify (3).
.SH SIGNALS
On SIGTERM, SIGINT or SIGQUIT the server writes the file of
.B \-\-state
if there is one, closes every WebSocket with code 1001, sends what is queued and exits within five seconds.
A second one ends it at once.
.PP
SIGHUP reads the certificate of
.B tls:
addresses again.
Without such an address it ends the server if standard error is a terminal, and does nothing otherwise.
SIGUSR1 and SIGUSR2 do nothing.
.SH EXIT STATUS
.TP
.B 0
The server was stopped by a signal,
.B check
found the flags valid, or the help or the version was printed.
.TP
.B 1
The server could not start or continue: for example, an address is in use.
.TP
.B 2
A flag or variable is invalid; the server was not started.
.TP
.BR 129 ", " 130 ", " 131 ", " 143
A second SIGHUP, SIGINT, SIGQUIT or SIGTERM ended the server.
.SH FILES
.TP
.I /usr/lib/systemd/system/disposable\-chat.service
The service unit.
.TP
.I /usr/lib/systemd/system/disposable\-chat.socket
The socket unit, which listens on 127.0.0.1:8000.
.TP
.I /usr/lib/systemd/system/disposable\-chat@.service
The service unit for several servers, which share a store.
.TP
.I /etc/disposable\-chat/store
The URL of that store.
.TP
.I /etc/default/disposable\-chat
Variables for the service, one per line; optional.
.TP
.I /usr/share/doc/disposable\-chat/
The README and the guide, which explains proxies, TLS, metrics and limits.
.SH SEE ALSO
.BR systemd.socket (5),
.BR systemctl (1)
"#;

// The units.

/// The values of a unit's setting, in order.
fn settings<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(setting, _)| *setting == name).map(|(_, value)| value).collect()
}

fn mib(text: &str) -> u32 {
    text.strip_suffix('M').expect("mebibytes").parse().expect("a number")
}

#[test]
fn the_memory_limit_of_the_service_is_a_third_above_the_ceiling() {
    for service in [SERVICE, TEMPLATE].map(read) {
        let environment = settings(&service, "Environment");
        let ceiling = environment.iter().find_map(|one| one.strip_prefix("CHAT_MAX_MEMORY="));
        let ceiling = mib(ceiling.expect("a ceiling"));
        assert_eq!(settings(&service, "MemoryMax"), [format!("{}M", ceiling + ceiling / 3)]);
    }
}

#[test]
fn the_service_sets_only_known_variables() {
    let service = read(SERVICE);
    let environment = settings(&service, "Environment");
    let env = |name: &str| {
        let mut given = environment.iter().filter_map(|one| one.split_once('='));
        given.find(|(variable, _)| *variable == name).map(|(_, value)| value.into())
    };
    let Ok(Task::Serve(config)) = Config::parse(std::iter::empty(), env) else {
        panic!("the server would not start: {environment:?}")
    };
    // The service runs with the defaults, except that a restart loses nothing.
    let state = Some("/run/disposable-chat/state".into());
    assert_eq!(config, Config { state, ..Config::default() });
    assert_eq!(settings(&service, "RuntimeDirectory"), ["disposable-chat"]);
    assert_eq!(settings(&service, "RuntimeDirectoryPreserve"), ["restart"]);
    assert!(
        environment.iter().all(|one| {
            FLAGS.iter().any(|flag| one.starts_with(&format!("{}=", flag.variable())))
        })
    );
}

/// Without the feature the variable is refused, as any other flag of a cluster.
#[cfg(feature = "cluster")]
#[test]
fn the_service_for_several_servers_sets_a_port_and_the_store() {
    let template = read(TEMPLATE).replace("%i", "8001").replace("%d", "/run/credentials");
    let environment = settings(&template, "Environment");
    let env = |name: &str| {
        let mut given = environment.iter().filter_map(|one| one.split_once('='));
        given.find(|(variable, _)| *variable == name).map(|(_, value)| value.into())
    };
    let Ok(Task::Serve(config)) = Config::parse(std::iter::empty(), env) else {
        panic!("the server would not start: {environment:?}")
    };
    let listen = vec![Listen::Tcp(([127, 0, 0, 1], 8001).into())];
    let cluster = Some("@/run/credentials/store".parse().expect("a store"));
    assert_eq!(config, Config { listen, listen_by_default: false, cluster, ..Config::default() });
    assert_eq!(settings(&template, "LoadCredential"), ["store:/etc/disposable-chat/store"]);
}

/// What differs is where the server listens and what a restart keeps.
#[test]
fn both_services_are_confined_and_supervised_in_the_same_way() {
    let own = [
        "Description",
        "Requires",
        "After",
        "Environment",
        "EnvironmentFile",
        "LoadCredential",
        "RuntimeDirectory",
        "RuntimeDirectoryMode",
        "RuntimeDirectoryPreserve",
        "Also",
    ];
    let shared = |unit: &str| -> Vec<String> {
        let lines = read(unit);
        let lines = lines.lines().filter(|line| !line.starts_with('#') && line.contains('='));
        let is_shared = |line: &&str| !own.contains(&line.split('=').next().unwrap_or_default());
        lines.filter(is_shared).map(str::to_owned).collect()
    };
    assert_eq!(shared(TEMPLATE), shared(SERVICE));
    assert!(shared(SERVICE).len() > 40);
}

#[test]
fn the_socket_listens_on_the_default_address() {
    let [Listen::Tcp(address)] = Config::default().listen[..] else { panic!("one address") };
    assert_eq!(settings(&read(SOCKET), "ListenStream"), [address.to_string()]);
}

#[test]
fn the_service_notifies_systemd_and_takes_its_sockets() {
    let service = read(SERVICE);
    assert_eq!(settings(&service, "Type"), ["notify"]);
    assert_eq!(settings(&service, "WatchdogSec").len(), 1);
    assert_eq!(settings(&service, "Requires"), ["disposable-chat.socket"]);
    assert_eq!(settings(&service, "ExecStart"), ["/usr/bin/disposable-chat"]);
}

#[test]
fn the_package_contains_the_files_that_the_manual_page_names() {
    let manifest = read("Cargo.toml");
    for asset in [
        "target/release/disposable-chat\", \"usr/bin/",
        "disposable-chat.1\", \"usr/share/man/man1/",
        // What the README links and shows.
        "README.md\", \"usr/share/doc/disposable-chat/",
        "src/guide/*.md\", \"usr/share/doc/disposable-chat/src/guide/",
        "src/guide/images/*.png\", \"usr/share/doc/disposable-chat/src/guide/images/",
        "src/dist/Containerfile\", \"usr/share/doc/disposable-chat/src/dist/",
    ] {
        assert!(manifest.contains(asset), "{asset}");
    }
    // cargo-deb finds the units by the name of the package.
    assert!(manifest.contains("maintainer-scripts = \"src/dist/\"\nsystemd-units = {}\n"));
}

// The image.

/// The arguments of an instruction, in order.
fn instructions<'a>(recipe: &'a str, name: &str) -> Vec<&'a str> {
    recipe.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).collect()
}

/// Nothing in an empty image could run a command, or give a name to a user.
#[test]
fn the_image_has_the_program_alone_and_starts_it_as_an_ordinary_user() {
    let recipe = read(CONTAINERFILE);
    assert_eq!(instructions(&recipe, "FROM"), ["scratch"]);
    assert_eq!(instructions(&recipe, "RUN"), [""; 0]);
    let program = env!("CARGO_PKG_NAME");
    assert_eq!(instructions(&recipe, "COPY"), [format!("{program} /{program}")]);
    assert_eq!(instructions(&recipe, "ENTRYPOINT"), [format!("[\"/{program}\"]")]);
    let [user] = instructions(&recipe, "USER")[..] else { panic!("one user: {recipe}") };
    let (user, group) = user.split_once(':').expect("a user and a group");
    assert!([user, group].iter().all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user}");
    // The page's commands make the context.
    let page = read("src/guide/operating.md");
    assert!(page.contains(&format!("/release/{program} root\n")), "the program in its folder");
    assert!(page.contains(&format!(" -f {CONTAINERFILE} root\n")), "the folder as context");
}

#[test]
fn the_image_listens_on_the_port_that_it_exposes() {
    let recipe = read(CONTAINERFILE);
    let variables = instructions(&recipe, "ENV");
    let env = |name: &str| {
        let mut given = variables.iter().filter_map(|one| one.split_once('='));
        given.find(|(variable, _)| *variable == name).map(|(_, value)| value.into())
    };
    let Ok(Task::Serve(config)) = Config::parse(std::iter::empty(), env) else {
        panic!("the server would not start: {variables:?}")
    };
    let [Listen::Tcp(address)] = config.listen[..] else { panic!("one address") };
    assert!(address.ip().is_unspecified(), "a container's own loopback reaches nobody: {address}");
    assert_eq!(instructions(&recipe, "EXPOSE"), [address.port().to_string()]);
    assert_eq!(
        config,
        Config { listen: config.listen.clone(), listen_by_default: false, ..Config::default() }
    );
}
