//! What is installed beside the program: the manual page, which is made here from the same table as `--help`, and
//! the units, held to that table and to each other.
//!
//! `WRITE_MANUAL=1 cargo test --test dist` writes the page anew.

use std::env;
use std::fmt::Write as _;
use std::fs;

use disposable_chat::config::{Command, Config, FLAGS, Listen};

const PAGE: &str = "src/dist/disposable-chat.1";
const SERVICE: &str = "src/dist/disposable-chat.service";
const SOCKET: &str = "src/dist/disposable-chat.socket";

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

// The manual page.

#[test]
fn the_manual_page_says_what_help_says() {
    if env::var_os("WRITE_MANUAL").is_some_and(|value| value == "1") {
        fs::write(PAGE, page()).expect("it can be written");
    }
    assert!(read(PAGE) == page(), "{PAGE} is old: WRITE_MANUAL=1 cargo test --test dist");
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
        let label = format!("{} {}", flag.option(), flag.kind.placeholder());
        let notes = format!("Default: {}. Variable: {}.", flag.default, flag.variable());
        entry(&mut page, &label, &format!("{}.\n{notes}", flag.help));
    }
    entry(&mut page, "-h, --help", "Print a summary of this.");
    entry(&mut page, "-V, --version", "Print name and version.");
    page.push_str(".PP\n");
    page.push_str(&escaped(&values()));
    page.push_str(AFTER);
    page
}

/// What `--help` says of values, below the flags.
fn values() -> String {
    match Config::parse(["--help".into()].into_iter(), |_| None) {
        Ok(Command::Help(text)) => text.rsplit("\n\n").next().expect("a last part").to_owned(),
        other => panic!("{other:?}"),
    }
}

fn entry(page: &mut String, label: &str, text: &str) {
    writeln!(page, ".TP\n.B {}\n{}", escaped(label), escaped(text)).expect("a String takes it");
}

/// What is a dash stays one, and nothing is a request (groff_char(7)).
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
A server for chat rooms that need no accounts and leave nothing on disk.
Somebody picks a name, opens a room and sends the link around; the room vanishes when nobody uses it.
The chat's page is at /, the API is explained at /docs.
.PP
With
.BR check ,
nothing is started or listened on: what the flags and variables come to is printed, a line each that could be given
again, and what the machine allows: descriptors, and whether the memory is there that
.B \-\-max\-memory
and a quarter more take.
.SH OPTIONS
"#;

const AFTER: &str = r#".SH ENVIRONMENT
Each flag has a variable, named above.
.TP
.B PORT
Alone, without
.B \-\-listen
and
.BR CHAT_LISTEN ,
it means that port of 0.0.0.0.
.TP
.BR LISTEN_FDS ", " LISTEN_PID ", " LISTEN_FDNAMES
Sockets that are handed over, as
.BR sd_listen_fds (3)
has it.
They take the default's place; what
.B \-\-listen
says is added.
One named
.I metrics
is for the metrics.
.TP
.BR NOTIFY_SOCKET ", " WATCHDOG_USEC ", " WATCHDOG_PID
Who is told that the server listens, leaves, and is alive, as
.BR sd_notify (3)
has it.
.SH SIGNALS
SIGTERM and SIGINT tell every socket that the server goes; what is queued is written out, and it ends within five
seconds.
A second one ends it at once.
.SH EXIT STATUS
.TP
.B 0
It was told to end, and did; or
.B check
found nothing wrong with the flags.
.TP
.B 1
The machine would not have it: an address is in use, or there is no randomness.
.TP
.B 2
A flag or variable is wrong.
Nothing was started.
.TP
.BR 130 ", " 143
It was told twice, by SIGINT or SIGTERM.
.SH FILES
.TP
.I /usr/lib/systemd/system/disposable\-chat.service
The unit.
.TP
.I /usr/lib/systemd/system/disposable\-chat.socket
Where it listens: 127.0.0.1:8000.
.TP
.I /etc/default/disposable\-chat
Variables for the unit, a line each; need not be there.
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
fn the_service_may_use_a_quarter_more_than_the_ceiling() {
    let service = read(SERVICE);
    let environment = settings(&service, "Environment");
    let ceiling = environment.iter().find_map(|one| one.strip_prefix("CHAT_MAX_MEMORY="));
    let ceiling = mib(ceiling.expect("a ceiling"));
    assert_eq!(settings(&service, "MemoryMax"), [format!("{}M", ceiling + ceiling / 4)]);
}

#[test]
fn the_service_gives_variables_that_the_program_takes() {
    let service = read(SERVICE);
    let environment = settings(&service, "Environment");
    let env = |name: &str| {
        let mut given = environment.iter().filter_map(|one| one.split_once('='));
        given.find(|(variable, _)| *variable == name).map(|(_, value)| value.into())
    };
    let Ok(Command::Serve(config)) = Config::parse(std::iter::empty(), env) else {
        panic!("the server would not start: {environment:?}")
    };
    // A service is what one gets without, but that a restart of it loses nothing.
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

#[test]
fn the_socket_is_where_the_program_listens_by_itself() {
    let [Listen::Tcp(address)] = Config::default().listen[..] else { panic!("one address") };
    assert_eq!(settings(&read(SOCKET), "ListenStream"), [address.to_string()]);
}

#[test]
fn the_service_is_told_of_and_tells() {
    let service = read(SERVICE);
    assert_eq!(settings(&service, "Type"), ["notify"]);
    assert_eq!(settings(&service, "WatchdogSec").len(), 1);
    assert_eq!(settings(&service, "Requires"), ["disposable-chat.socket"]);
    assert_eq!(settings(&service, "ExecStart"), ["/usr/bin/disposable-chat"]);
}

#[test]
fn the_package_holds_what_the_manual_page_names() {
    let manifest = read("Cargo.toml");
    for asset in [
        "target/release/disposable-chat\", \"usr/bin/",
        "disposable-chat.1\", \"usr/share/man/man1/",
    ] {
        assert!(manifest.contains(asset), "{asset}");
    }
    // Found by their names, which are the package's.
    assert!(manifest.contains("maintainer-scripts = \"src/dist/\"\nsystemd-units = {}\n"));
}
