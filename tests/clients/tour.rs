//! The README's tour, typed and pasted into interactive shells, block by block.
//!
//! The tour once hung in zsh, which does not recognize comments at its prompt by default: an apostrophe in a comment
//! opened a string without an end. Scripts do not show this, so each shell runs in a terminal, made by script(1).
//! The tour names the server once, in its first line, because port 8000 may be taken.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::get;
use crate::program::{PATIENT, command, find, needed, run};
use crate::server::{self, Server};

const README: &str = include_str!("../../README.md");

/// How long a block may take. A shell that waits for the end of a string never continues.
const BLOCK_DEADLINE: Duration = Duration::from_secs(20);

/// Messages of a shell that cannot run a block.
const COMPLAINTS: [&str; 6] =
    ["no matches found", "not found", "parse error", "syntax error", "bad pattern", "No such file"];

/// The tour's code blocks in `language`, with the server's address instead of the default one.
fn blocks(language: &str, server: &Server) -> Vec<String> {
    let (_, tour) = README.split_once("\n## A tour").expect("a tour");
    let (tour, _) = tour.split_once("\n## ").expect("its end");
    let fence = format!("\n```{language}\n");
    let blocks =
        tour.split(&fence).skip(1).map(|rest| rest.split_once("```").expect("a block ends").0);
    let blocks: Vec<_> = blocks.collect();
    let named = blocks.iter().map(|block| block.matches("localhost:8000").count());
    assert_eq!(named.sum::<usize>(), 1, "one line to change for another port");
    blocks.iter().map(|block| block.replace("localhost:8000", &server.host())).collect()
}

/// How a block reaches the shell.
#[derive(Clone, Copy)]
enum Input {
    /// Line by line, as from a keyboard or from a terminal without bracketed paste.
    Typed,
    /// As one bracketed paste followed by Enter, as from most terminals today.
    Pasted,
}

/// An interactive shell in a terminal of its own.
struct Terminal {
    script: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    home: PathBuf,
    marks: usize,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
        let _ = fs::remove_dir_all(&self.home);
    }
}

impl Terminal {
    /// `None` if a program is missing.
    fn open(shell: &str, name: &str) -> Option<Terminal> {
        needed("curl", find(&["curl"]))?;
        let script = needed("script", find(&["script"]))?;
        needed(shell, find(&[shell]))?;
        let home = std::env::temp_dir().join(format!("tour-{name}-{}", std::process::id()));
        fs::create_dir_all(&home).expect("a directory");
        fs::write(home.join(".zshrc"), "").expect("a file, without which zsh starts its set-up");
        let mut script = command(script);
        script.args(["-q", "-f", "-c", &format!("exec {shell} -i"), "/dev/null"]);
        script.env("HOME", &home).env("TERM", "xterm").env_remove("ZDOTDIR").env_remove("HISTFILE");
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut script = script.spawn().expect("script runs");
        let keyboard = script.stdin.take().expect("piped");
        let mut output = script.stdout.take().expect("piped");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let shown = screen.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap_or_else(PoisonError::into_inner).extend(&bytes[..count]);
            }
        });
        let mut terminal = Terminal { script, keyboard, screen, home, marks: 0 };
        terminal.wait_for_mark();
        Some(terminal)
    }

    fn screen(&self) -> String {
        let bytes = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the shell is there");
        self.keyboard.flush().expect("the shell is there");
    }

    /// Runs a command that prints a mark, and waits for the mark. The command itself does not contain it.
    fn wait_for_mark(&mut self) {
        self.marks += 1;
        self.press(&format!("echo mark-$((0 + {}))-end\r", self.marks));
        let mark = format!("mark-{}-end", self.marks);
        let began = Instant::now();
        while !self.screen().contains(&mark) {
            assert!(began.elapsed() < BLOCK_DEADLINE, "the shell hangs:\n{}", self.screen());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs a block and returns what the terminal has shown since.
    #[track_caller]
    fn run(&mut self, block: &str, input: Input) -> String {
        let before = self.screen().len();
        let keys = block.trim_end().replace('\n', "\r");
        match input {
            Input::Typed => self.press(&format!("{keys}\r")),
            Input::Pasted => self.press(&format!("\u{1b}[200~{keys}\u{1b}[201~\r")),
        }
        self.wait_for_mark();
        let shown = self.screen().split_off(before);
        assert!(!COMPLAINTS.iter().any(|complaint| shown.contains(complaint)), "{shown}");
        shown
    }
}

/// The text after the last `before`, up to the next quote or end of line.
#[track_caller]
fn text_after<'a>(text: &'a str, before: &str) -> &'a str {
    let (_, rest) = text.rsplit_once(before).unwrap_or_else(|| panic!("no {before}:\n{text}"));
    rest.split(['"', '\r', '\n', '\u{1b}']).next().unwrap_or_default()
}

#[track_caller]
fn expect_tour(shell: &str, input: Input, name: &str) {
    expect_tour_at(&Server::start(PATIENT), shell, input, name);
}

#[track_caller]
fn expect_tour_at(server: &Server, shell: &str, input: Input, name: &str) {
    let Some(mut terminal) = Terminal::open(shell, name) else { return };
    let blocks = blocks("sh", server);
    let [session, room, posts, rooms, end] = &blocks[..] else { panic!("{blocks:#?}") };

    let shown = terminal.run(session, input);
    assert!(shown.contains(r#""username":"ana","joined_rooms":[]}"#), "{shown}");
    let session_id = text_after(&shown, r#"{"session_id":""#).to_owned();

    let shown = terminal.run(room, input);
    let room_id = text_after(&shown, &format!("http://{}/#/r/", server.host())).to_owned();
    let all = server.ask(get("/rooms/all?detail=true")).expect(200).json();
    assert_eq!(
        (&all["rooms"][0]["room_id"], &all["rooms"][0]["title"]),
        (&room_id.as_str().into(), &"Lunch".into())
    );

    let shown = terminal.run(posts, input);
    let answers = shown.matches(r#","message":"Hello world","timestamp":""#).count();
    assert_eq!(answers, 3, "the post, its repetition, and the history: {shown}");
    let kept = server.messages(&room_id, &session_id);
    assert_eq!(kept.len(), 1, "one message: {kept:?}");

    let shown = terminal.run(rooms, input);
    assert!(shown.contains(r#""title":"Lunch""#), "{shown}");
    assert_eq!(text_after(&shown, "{\"room_id\":\"").len(), 32, "a private room's id: {shown}");

    let shown = terminal.run(end, input);
    assert!(shown.contains(r#"{"message":"Session ended"}"#), "{shown}");
    server.ask(get("/sessions/me").session(&session_id)).refused(401, "invalid_session");
}

#[test]
fn the_tour_can_be_typed_into_bash() {
    expect_tour("bash", Input::Typed, "typed-bash");
}

#[test]
fn the_tour_can_be_pasted_into_bash() {
    expect_tour("bash", Input::Pasted, "pasted-bash");
}

#[test]
fn the_tour_can_be_typed_into_zsh() {
    expect_tour("zsh", Input::Typed, "typed-zsh");
}

#[test]
fn the_tour_can_be_pasted_into_zsh() {
    expect_tour("zsh", Input::Pasted, "pasted-zsh");
}

/// The README quotes what the server says if port 8000 is taken, and gives a command that chooses another one.
#[test]
fn the_tour_goes_on_at_another_port_when_the_first_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = taken.local_addr().expect("an address").to_string();
    let ended = server::run(&["--listen", &address], &[]);
    let line = ended.stderr.replace(&address, "127.0.0.1:8000");
    assert!(README.contains(&format!("\n```text\n{line}```\n")), "the README lacks: {line}");

    assert!(README.contains("`cargo run --release -- --listen 127.0.0.1:8001`"));
    for shell in ["bash", "zsh"] {
        // Any free port: 8001 may be taken, too.
        let server = Server::spawn(server::command(&["--listen", "127.0.0.1:0"], &[]), 1);
        expect_tour_at(&server, shell, Input::Typed, &format!("other-{shell}"));
    }
}

/// The block for a browser's console, in Node, which has the same `fetch` and `WebSocket`.
#[test]
fn the_tour_for_the_console_sends_and_receives() {
    let Some(node) = needed("node", find(&["node", "nodejs"])) else { return };
    let server = Server::start(PATIENT);
    let session = server.session("ana");
    let room = server.room(&session);
    let blocks = blocks("js", &server);
    let [block] = &blocks[..] else { panic!("{blocks:#?}") };
    let typed = "socket.onopen = () => say('hello');\n\
                 socket.addEventListener('message', ({ data }) => data.includes('hello') && socket.close());\n";
    let mut node = command(node);
    node.args(["--experimental-websocket", "--no-warnings", "--input-type=module", "--eval"]);
    let ended =
        run(node.arg(format!("{}\n{typed}", block.replace("ROOM", &room)))).expect_success();
    let shown = ended.stdout();
    for part in
        [r#""type":"history""#, r#""message":"bo has joined""#, r#""message":"hello""#, "closed 1"]
    {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}
