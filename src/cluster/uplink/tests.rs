//! Scripts of a connection and its store, with the store's bytes split at every place.

use super::*;
use crate::clock::SeededEntropy;

/// One step of a script.
enum Step<'a> {
    /// The time is so many milliseconds after the start; deadlines are acted on.
    At(u64),
    /// A stream is opened.
    Open,
    /// A stream is not due to be opened.
    NotDue,
    /// The server sends these commands, one in each line.
    Sends(&'a str),
    /// The store sends this. Runs split at every byte.
    Says(&'a str),
    /// The stream breaks.
    Breaks,
    /// `touch` is called with this text as its argument and as the token.
    Call(&'a str),
    /// The same, and it waits without end.
    Lasting(&'a str),
    /// `resync` is called with this text, also while catching up.
    CatchUp(&'a str),
    /// A call is refused.
    Refused,
    /// Catching up is over.
    Resume,
    /// These calls are handed back: token, and whether it may have been executed.
    Settle(&'a str, &'a str),
    /// These events come.
    Happens(&'a str),
}
use Step::*;

const LIBRARY: &str = "#!lua name=@LIB@";

fn uplink(partitions: u16) -> Uplink<String> {
    let config = UplinkConfig {
        prefix: "dc".to_owned(),
        partitions,
        timeout: Duration::from_secs(5),
        lease: Duration::from_secs(10),
        ttl_max: Duration::from_secs(600),
        terms: "1/1/store".to_owned(),
        secret_draft: "draft".to_owned(),
    };
    Uplink::new(config, Library::of(LIBRARY))
}

/// The commands, with names that do not depend on the library's hash and on chance.
fn shown_commands(output: &[u8], node: Option<&Node>, incarnation: [u8; 8]) -> String {
    let text = String::from_utf8(output.to_vec()).unwrap();
    let mut lines = text.split("\r\n");
    let mut shown = Vec::new();
    while let Some(count) = lines.next().and_then(|line| line.strip_prefix('*')) {
        let parts = (0..count.parse().unwrap()).map(|_| {
            let length = lines.next().and_then(|line| line.strip_prefix('$')).unwrap();
            let part = lines.next().unwrap();
            assert_eq!(length.parse(), Ok(part.len()));
            if part.is_empty() { "''" } else { part }
        });
        shown.push(parts.collect::<Vec<_>>().join(" "));
    }
    let library = Library::of(LIBRARY);
    let incarnation = format!("{:016x}", u64::from_be_bytes(incarnation));
    let node = node.map_or("no node", |node| &node.name);
    let shown = shown.join("\n").replace(library.name(), "lib");
    shown.replace(node, "NODE").replace(&incarnation, "INC")
}

fn shown_event(event: &UplinkEvent<String>) -> String {
    match event {
        UplinkEvent::Connected { is_fresh, secret, store_micros } => {
            let secret = String::from_utf8_lossy(secret);
            let kind = if *is_fresh { "fresh" } else { "known" };
            format!("connected {kind} {secret} {store_micros}")
        }
        UplinkEvent::Reply(token, reply) => format!("{token} = {}", reply.status()),
        UplinkEvent::Failed(token, why) => format!("{token} failed: {why:?}"),
        UplinkEvent::Push { partition, text } => {
            format!("push {partition} {}", String::from_utf8_lossy(text))
        }
        UplinkEvent::Lost => "lost".to_owned(),
        UplinkEvent::Fatal(problem) => format!("fatal: {problem}"),
    }
}

/// Runs a script with the store's `split`th byte beginning a new read.
fn run(partitions: u16, script: &[Step<'_>], split: usize) {
    let (mut uplink, mut entropy) = (uplink(partitions), SeededEntropy::new(1));
    let (mut now, mut events, mut said) = (Mono::ZERO, Vec::new(), 0);
    let call = |partition, function, text: &str| (partition, function, text.to_owned());
    for (place, step) in script.iter().enumerate() {
        let place = format!("step {place}, split at {split}");
        let happened = |events: &mut Vec<UplinkEvent<String>>| {
            events.drain(..).map(|event| shown_event(&event)).collect::<Vec<_>>().join("\n")
        };
        match step {
            At(_) | Open | Says(_) | Breaks => assert_eq!(happened(&mut events), "", "{place}"),
            _ => {}
        }
        match step {
            At(millis) => {
                let due = uplink.next_deadline();
                now = Mono::from_micros(millis * 1000);
                uplink.sweep(now, &mut events);
                let is_due = due.is_some_and(|due| due <= now);
                assert!(events.is_empty() || is_due, "{place}: it would have slept");
            }
            Open => {
                assert!(uplink.next_deadline().is_some_and(|due| due <= now), "{place}");
                assert!(uplink.poll_connect(now, &mut entropy), "{place}");
                assert!(!uplink.poll_connect(now, &mut entropy), "{place}");
                uplink.on_connected(now, Login { database: 0, ..Login::default() });
            }
            NotDue => assert!(!uplink.poll_connect(now, &mut entropy), "{place}"),
            Sends(expected) => {
                let output = uplink.output().unwrap_or_default();
                let node = uplink.node.as_ref();
                let sent = shown_commands(&output, node, uplink.incarnation);
                assert_eq!(sent, *expected, "{place}");
            }
            Says(text) => {
                let bytes = text.replace(['\n', ';'], "\r\n").into_bytes();
                let at = split.saturating_sub(said).min(bytes.len());
                let (one, other) = bytes.split_at(at);
                said += bytes.len();
                for part in [one, other] {
                    uplink.on_bytes(now, part, &mut events);
                }
            }
            Breaks => uplink.on_lost(now, &"reset", &mut events),
            Call(text) | Lasting(text) | CatchUp(text) => {
                let (partition, function, token) = match step {
                    CatchUp(_) => call(0, Function::Resync, text),
                    _ => call(partitions - 1, Function::Touch, text),
                };
                let args = Args::new().text(text);
                let is_lasting = matches!(step, Lasting(_));
                let call = StoreCall { partition, function, args, is_lasting };
                let called = match step {
                    CatchUp(_) => uplink.call_once(now, call, token),
                    _ => uplink.call(now, call, token),
                };
                assert_eq!(called, Ok(()), "{place}");
            }
            Refused => {
                let function = Function::Touch;
                let args = Args::new();
                let call = StoreCall { partition: 0, function, args, is_lasting: true };
                let refused = uplink.call(now, call, "refused".to_owned());
                assert_eq!(refused, Err(Unavailable), "{place}");
            }
            Resume => uplink.resume(now),
            Settle(which, expected) => {
                let mut asked = Vec::new();
                let settled = uplink.settle(&mut |token, may_have_run| {
                    asked.push(format!("{token} {may_have_run}"));
                    which.contains(token.as_str())
                });
                assert_eq!(
                    (asked.join(", "), settled.join(",").as_str()),
                    ((*expected).to_owned(), *which)
                );
            }
            Happens(expected) => assert_eq!(happened(&mut events), *expected, "{place}"),
        }
    }
    assert!(uplink.calls.is_counted());
}

/// `;` and line breaks in what the store says are CR LF.
#[track_caller]
fn check_with(partitions: u16, script: &[Step<'_>]) {
    let bytes = |step: &Step<'_>| match step {
        Says(text) => text.len() + text.matches([';', '\n']).count(),
        _ => 0,
    };
    for split in 0..=script.iter().map(bytes).sum() {
        run(partitions, script, split);
    }
}

#[track_caller]
fn check(script: &[Step<'_>]) {
    check_with(1, script);
}

const GREETING: &str = "HELLO 3 SETNAME dc-NODE\nROLE\nINFO server\nFUNCTION LOAD #!lua name=lib\n\
    SSUBSCRIBE dc:{0}:to:NODE\n\
    FCALL lib_hello 1 dc:{0}:nodes NODE INC 10000000 1/1/store 1 draft 600000000";
const GREETING_AGAIN: &str = "HELLO 3 SETNAME dc-NODE\nROLE\nINFO server\nFUNCTION LOAD #!lua name=lib\n\
    SSUBSCRIBE dc:{0}:to:NODE\n\
    FCALL lib_hello 1 dc:{0}:nodes NODE INC 10000000 1/1/store '' draft 600000000";
const HELLO: &str = "%1;+server;+redis;";
const ROLE: &str = "*3;$6;master;:0;*0;";
const INFO: &str = "=36;txt:# Server;redis_version:7.0.15;;";
const LOADED: &str = "+dc_01234567;";
const EXISTS: &str = "-ERR Library 'dc_01234567' already exists;";
const SUBSCRIBED: &str = ">3;$10;ssubscribe;$3;abc;:1;";
const KEPT: &str = "*3;$4;KEPT;$6;secret;$2;55;";

const WELCOME: [Step<'_>; 6] =
    [Says(HELLO), Says(ROLE), Says(INFO), Says(EXISTS), Says(SUBSCRIBED), Says(KEPT)];

/// A script that begins with a first connection in state Up.
fn after_start<'a>(script: Vec<Step<'a>>) -> Vec<Step<'a>> {
    let mut whole = vec![Open, Sends(GREETING)];
    whole.extend(WELCOME);
    whole.extend([Happens("connected fresh secret 55"), Resume]);
    whole.extend(script);
    whole
}

/// The connection comes back.
fn again<'a>() -> Vec<Step<'a>> {
    let mut whole = vec![Open, Sends(GREETING_AGAIN)];
    whole.extend(WELCOME);
    whole.push(Happens("connected known secret 55"));
    whole
}

fn joined<'a>(parts: impl IntoIterator<Item = Vec<Step<'a>>>) -> Vec<Step<'a>> {
    parts.into_iter().flatten().collect()
}

#[test]
fn the_store_is_greeted_before_anything_is_asked() {
    check(&[
        Refused,
        Open,
        Refused,
        Sends(GREETING),
        Says(HELLO),
        Says(ROLE),
        Says(INFO),
        Says(LOADED),
        Says(SUBSCRIBED),
        Refused,
        Says(">3;$8;smessage;$11;dc:{0}:to:n;$1;Z;"),
        Says(KEPT),
        Happens("connected fresh secret 55"),
        Refused,
        CatchUp("a"),
        Sends("FCALL lib_resync 1 dc:{0}:nodes NODE INC a"),
        Says("*1;$2;OK;"),
        Happens("a = OK"),
        Resume,
        Call("b"),
        Sends("FCALL lib_touch 1 dc:{0}:nodes NODE INC b"),
    ]);
}

#[test]
fn each_partition_is_greeted() {
    let greeting = GREETING
        .lines()
        .chain(["SSUBSCRIBE dc:{1}:to:NODE"])
        .chain(["FCALL lib_hello 1 dc:{1}:nodes NODE INC 10000000 1/1/store 1 draft 600000000"]);
    let mut greeting: Vec<_> = greeting.collect();
    greeting.swap(5, 6);
    check_with(
        2,
        &[
            Open,
            Sends(&greeting.join("\n")),
            Says(HELLO),
            Says(ROLE),
            Says(INFO),
            Says(EXISTS),
            Says(SUBSCRIBED),
            Says(SUBSCRIBED),
            Says(KEPT),
            Says("*3;$4;KEPT;$5;other;$2;56;"),
            Happens("connected fresh secret 55"),
            Resume,
            Call("a"),
            Sends("FCALL lib_touch 1 dc:{1}:nodes NODE INC a"),
            Says(">3;$8;smessage;$11;dc:{1}:to:n;$3;E x;*1;$2;OK;"),
            Happens("push 1 E x\na = OK"),
            Says(">3;$8;smessage;$11;dc:{2}:to:n;$3;E x;>3;$8;smessage;$1;x;$1;x;"),
            Happens(""),
        ],
    );
}

#[test]
fn a_login_and_a_database_are_part_of_the_greeting() {
    let (mut uplink, mut entropy) = (uplink(1), SeededEntropy::new(1));
    assert!(uplink.poll_connect(Mono::ZERO, &mut entropy));
    let login = Login { user: Some("chat"), password: Some("p w"), database: 3 };
    uplink.on_connected(Mono::ZERO, login);
    let output = uplink.output().unwrap();
    let shown = shown_commands(&output, uplink.node.as_ref(), uplink.incarnation);
    let begin = "HELLO 3 AUTH chat p w SETNAME dc-NODE\nSELECT 3\nROLE\n";
    assert!(shown.starts_with(begin), "{shown}");
}

#[test]
fn replies_answer_calls_in_their_order() {
    check(&after_start(vec![
        Call("a"),
        CatchUp("b"),
        Call("c"),
        Sends(
            "FCALL lib_touch 1 dc:{0}:nodes NODE INC a\n\
             FCALL lib_resync 1 dc:{0}:nodes NODE INC b\n\
             FCALL lib_touch 1 dc:{0}:nodes NODE INC c",
        ),
        Says("*1;$1;1;>3;$8;smessage;$11;dc:{0}:to:n;$3;E x;*1;$1;2;"),
        Happens("a = 1\npush 0 E x\nb = 2"),
        Says("-OOM command not allowed;"),
        Happens("c failed: Full"),
        Call("d"),
        Says("-WRONGTYPE Operation;"),
        Happens("d failed: Internal"),
    ]));
}

#[test]
fn what_has_no_reply_is_sent_again_in_its_order() {
    check(&joined([
        after_start(vec![
            Call("a"),
            Call("b"),
            CatchUp("x"),
            Call("c"),
            Says("*1;$2;OK;"),
            Happens("a = OK"),
            Breaks,
            Happens("lost\nx failed: Away"),
            Refused,
            NotDue,
            At(50),
        ]),
        again(),
        vec![
            CatchUp("y"),
            Sends("FCALL lib_resync 1 dc:{0}:nodes NODE INC y"),
            Settle("b", "b true, c true"),
            Says("*1;$2;OK;"),
            Happens("y = OK"),
            Resume,
            Call("d"),
            Sends(
                "FCALL lib_touch 1 dc:{0}:nodes NODE INC c\n\
                 FCALL lib_touch 1 dc:{0}:nodes NODE INC d",
            ),
            Says("*1;$1;1;*1;$1;2;"),
            Happens("c = 1\nd = 2"),
        ],
    ]));
}

#[test]
fn a_connection_that_breaks_while_it_catches_up_keeps_what_waits() {
    check(&joined([
        after_start(vec![Call("a"), Breaks, Happens("lost"), At(50)]),
        again(),
        vec![CatchUp("x"), Breaks, Happens("lost\nx failed: Away"), At(150)],
        again(),
        vec![Resume, Sends("FCALL lib_touch 1 dc:{0}:nodes NODE INC a")],
    ]));
}

#[test]
fn calls_that_were_fenced_were_not_executed() {
    check(&joined([
        after_start(vec![
            Call("a"),
            Call("b"),
            Says("-FENCED;"),
            Happens("lost"),
            // What else comes on this connection answers nothing.
            Says("-FENCED;"),
        ]),
        again(),
        vec![
            Settle("", "a false, b false"),
            Resume,
            Sends(
                "FCALL lib_touch 1 dc:{0}:nodes NODE INC a\n\
                 FCALL lib_touch 1 dc:{0}:nodes NODE INC b",
            ),
            // A second time within a second, there is a pause.
            Says("-FENCED;"),
            Happens("lost"),
            NotDue,
        ],
    ]));
}

#[test]
fn a_node_that_the_store_has_given_up_begins_as_another() {
    check(&joined([
        after_start(vec![Call("a"), Breaks, Happens("lost"), At(50), Open, Sends(GREETING_AGAIN)]),
        vec![
            Says(HELLO),
            Says(ROLE),
            Says(INFO),
            Says(EXISTS),
            Says(SUBSCRIBED),
            Says("*1;$3;NEW;"),
            Open,
            Sends(GREETING),
        ],
        WELCOME.into_iter().collect(),
        vec![
            Happens("connected fresh secret 55"),
            Settle("", "a true"),
            Resume,
            Sends("FCALL lib_touch 1 dc:{0}:nodes NODE INC a"),
        ],
    ]));
}

#[test]
fn lost_functions_are_loaded_again() {
    check(&joined([
        after_start(vec![Call("a"), Says("-ERR Function not found;"), Happens("lost")]),
        again(),
        vec![Settle("", "a false"), Resume, Sends("FCALL lib_touch 1 dc:{0}:nodes NODE INC a")],
    ]));
}

#[test]
fn a_store_that_takes_no_calls_now_is_tried_again_after_a_pause() {
    for refusal in ["-READONLY x;", "-LOADING x;", "-NOREPLICAS x;", "-MASTERDOWN x;", "-BUSY x;"] {
        check(&joined([
            after_start(vec![Call("a"), Says(refusal), Happens("lost"), NotDue, At(50)]),
            again(),
            vec![Resume, Sends("FCALL lib_touch 1 dc:{0}:nodes NODE INC a")],
        ]));
    }
}

#[test]
fn a_call_waits_for_a_connection_no_longer_than_the_timeout() {
    check(&joined([
        after_start(vec![
            At(1000),
            Call("a"),
            Lasting("b"),
            Says("-LOADING x;"),
            Happens("lost"),
            At(5999),
            Happens(""),
            At(6000),
            // Loading: it was not executed. The other was, perhaps.
            Happens("a failed: Away"),
        ]),
        again(),
        vec![Settle("", "b true"), Resume, Sends("FCALL lib_touch 1 dc:{0}:nodes NODE INC b")],
    ]));
    check(&after_start(vec![
        Call("a"),
        At(2000),
        Breaks,
        Happens("lost"),
        At(4999),
        Happens(""),
        At(5000),
        Happens("a failed: Unknown"),
    ]));
}

#[test]
fn a_store_that_does_not_reply_is_slow_and_then_given_up() {
    let script = after_start(vec![
        At(100),
        Call("a"),
        At(600),
        Call("b"),
        At(1100),
        Happens(""),
        At(5099),
        Happens(""),
        At(5100),
        Happens("lost\na failed: Unknown"),
        At(5600),
        Happens("b failed: Unknown"),
    ]);
    check(&script);
    let (mut uplink, mut events) = (uplink(1), Vec::new());
    uplink.state = UplinkState::Up;
    for token in ["a", "b"] {
        let (function, args) = (Function::Touch, Args::new());
        let call = StoreCall { partition: 0, function, args, is_lasting: false };
        assert_eq!(uplink.call(Mono::ZERO, call, token.to_owned()), Ok(()));
    }
    let at = |millis: u64| Mono::from_micros(millis * 1000);
    assert_eq!(uplink.next_deadline(), Some(at(1000)));
    uplink.sweep(at(1000), &mut events);
    assert_eq!((uplink.is_slow(), uplink.next_deadline()), (true, Some(at(5000))));
    uplink.on_bytes(at(2000), b"+OK\r\n", &mut events);
    assert!(uplink.is_slow(), "the second call has waited as long");
    uplink.on_bytes(at(2000), b"+OK\r\n", &mut events);
    assert!(!uplink.is_slow());
    let counters = uplink.counters();
    assert_eq!((counters.slow, counters.in_flight), (1, 0));
    assert_eq!(counters.latency.sum_micros, 4_000_000);
}

#[test]
fn a_store_that_does_not_greet_in_time_is_given_up() {
    check(&[Open, At(4999), At(5000), NotDue, At(5050), Open]);
    check(&[Open, Says(HELLO), At(5000), NotDue, At(5050), Open]);
    let (mut uplink, mut entropy) = (uplink(1), SeededEntropy::new(1));
    assert!(uplink.poll_connect(Mono::ZERO, &mut entropy));
    uplink.sweep(Mono::from_micros(5_000_000), &mut Vec::new());
    assert!(uplink.is_down(), "the stream was never open");
}

#[test]
fn an_unfit_store_is_fatal_at_the_start() {
    let fatal = |script: &[Step<'_>], text: &str| {
        let mut whole = vec![Open];
        whole.extend(script.iter().map(|step| match step {
            Says(text) => Says(text),
            _ => unreachable!(),
        }));
        let shown = format!("fatal: {text}");
        whole.extend([Happens(&shown), NotDue]);
        check(&whole);
    };
    let rights = "the store's user lacks a right, or its password is wrong: ";
    fatal(
        &[Says("-ERR unknown command 'HELLO';")],
        "the store is too old (ERR unknown command 'HELLO'); Redis 7 or Valkey is needed",
    );
    let old = "=35;txt:# Server;redis_version:6.2.7;;";
    fatal(
        &[Says(HELLO), Says(ROLE), Says(old)],
        "the store is too old (6.2.7); Redis 7 or Valkey is needed",
    );
    fatal(&[Says("-WRONGPASS bad;")], &format!("{rights}WRONGPASS bad"));
    fatal(&[Says("-NOAUTH bad;")], &format!("{rights}NOAUTH bad"));
    fatal(&[Says(HELLO), Says("-NOPERM role;")], &format!("{rights}NOPERM role"));
    let upto = [Says(HELLO), Says(ROLE), Says(INFO)];
    let begun = |rest: &[&'static str]| {
        let steps = upto.iter().map(|step| if let Says(text) = step { *text } else { "" });
        steps.chain(rest.iter().copied()).map(Says).collect::<Vec<_>>()
    };
    fatal(&begun(&[EXISTS, "-NOPERM channel;"]), &format!("{rights}NOPERM channel"));
    fatal(
        &begun(&["-NOPERM load;", SUBSCRIBED, "-ERR Function not found;"]),
        &format!("{rights}the functions are not there, and it may not load them"),
    );
    fatal(
        &begun(&[EXISTS, SUBSCRIBED, "-TERMS 7/1/store;"]),
        "the store holds the records of another version (7, this one has 1); to use it, stop all \
         its servers, and empty it",
    );
    fatal(
        &begun(&[EXISTS, SUBSCRIBED, "-TERMS 1/4/store;"]),
        "the store's servers have --cluster-partitions 4, and this one has 1; to change that, \
         stop all its servers, and empty it",
    );
    fatal(
        &begun(&[EXISTS, SUBSCRIBED, "-TERMS 1/1/0123456789abcdef;"]),
        "--cluster-secret is not that of the store's other servers; to change it, stop all its \
         servers, and empty it",
    );
    fatal(
        &begun(&["-ERR Error compiling function;"]),
        "the store refuses to serve: ERR Error compiling function",
    );
}

#[test]
fn a_store_that_is_not_ready_is_tried_again_at_the_start() {
    check(&[Open, Says(HELLO), Says("*3;$5;slave;$1;a;:1;"), Happens(""), NotDue, At(50), Open]);
    check(&[Open, Says("-LOADING x;"), Happens(""), At(50), Open]);
    check(&[Open, Breaks, Happens(""), At(50), Open, Breaks, At(99), NotDue, At(150), Open]);
    check(&[Open, Says("HTTP/1.1 400 Bad Request;"), Happens(""), At(50), Open]);
    check(&[
        Open,
        Says(HELLO),
        Says(ROLE),
        Says(INFO),
        Says("-NOPERM x;"),
        Says(SUBSCRIBED),
        Says(KEPT),
        Happens("connected fresh secret 55"),
    ]);
}

/// A store that was fit is upgraded, or its user changed.
#[test]
fn an_unfit_store_is_tried_again_later() {
    check(&joined([
        after_start(vec![
            Breaks,
            Happens("lost"),
            At(50),
            Open,
            Says("-WRONGPASS bad;"),
            Happens(""),
        ]),
        vec![NotDue, At(150), Open],
    ]));
}

#[test]
fn calls_without_a_reply_are_bounded() {
    let call = |function, args| StoreCall { partition: 0, function, args, is_lasting: false };
    let (mut uplink, mut events) = (uplink(1), Vec::new());
    uplink.state = UplinkState::Up;
    let (now, token) = (Mono::ZERO, String::new);
    let touch = || call(Function::Touch, Args::new());
    for _ in 0..CALLS_MAX {
        assert_eq!(uplink.call(now, touch(), token()), Ok(()));
    }
    assert_eq!(uplink.call(now, touch(), token()), Err(Unavailable));
    assert_eq!(uplink.call_once(now, touch(), token()), Ok(()));
    assert_eq!(uplink.call(now, call(Function::Exit, Args::new()), token()), Ok(()));
    uplink.on_bytes(now, &b"+OK\r\n".repeat(CALLS_MAX + 2), &mut events);
    assert_eq!((events.len(), uplink.counters().in_flight), (CALLS_MAX + 2, 0));
    let large = vec![b'x'; 1 << 20];
    let post = || call(Function::Post, Args::new().text(&large));
    let accepted = (0..10).filter(|_| uplink.call(now, post(), token()).is_ok());
    assert_eq!(accepted.count(), 4);
    assert!(uplink.heap_bytes() >= 8 << 20, "{}", uplink.heap_bytes());
}
