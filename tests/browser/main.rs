//! The page in real browsers, against the real server over real sockets: Chromium, controlled by npm's playwright-core,
//! and for the main flows also Firefox, controlled by puppeteer-core. The tests are the files `*.test.mjs`, for Node's own
//! test runner, and share `harness.mjs`. This file runs each of them as one test of `cargo test --test browser`.
//!
//! The smoke test and those that need no browser always run, the others with `SLOW_TESTS=1`. If node, a browser or the
//! packages (`npm ci` in this folder) are missing, the tests are skipped with a message, or fail with `REQUIRE_ALL=1`. To
//! run them without cargo: `node --test tests/browser`, and in Firefox `BROWSER=firefox node --test tests/browser/flows.test.mjs`.

// Finds and runs external programs. These tests need only a part of it.
#[allow(dead_code)]
#[path = "../clients/program.rs"]
mod program;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use program::{command, find, needed, wait};

/// The time limit for one file, on a machine that runs others at the same time.
const FILE_DEADLINE: Duration = Duration::from_secs(600);

/// Browsers that run at once. More of them slow each other down on two cores, until waits run out.
static BROWSERS_LEFT: Mutex<usize> = Mutex::new(3);
static BROWSER_ENDED: Condvar = Condvar::new();

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");

/// A browser: the value of `BROWSER`, the variable for its path, and the names of its program.
type Browser = (&'static str, &'static str, &'static [&'static str]);
const CHROMIUM: Browser =
    ("chromium", "CHROMIUM", &["chromium", "chromium-browser", "google-chrome"]);
const FIREFOX: Browser = ("firefox", "FIREFOX", &["firefox-esr", "firefox"]);

/// Runs the tests of one file in a browser.
#[track_caller]
fn run_file(name: &str, (browser, variable, programs): Browser) {
    let program = needed(browser, find(programs));
    let modules = Path::new(FOLDER).join("node_modules");
    let is_installed =
        ["playwright-core", "puppeteer-core"].iter().all(|one| modules.join(one).exists());
    let modules = needed("`npm ci` in tests/browser", is_installed.then_some(()));
    let (Some(program), Some(())) = (program, modules) else { return };
    let left = BROWSERS_LEFT.lock().unwrap();
    *BROWSER_ENDED.wait_while(left, |left| *left == 0).unwrap() -= 1;
    let ended =
        catch_unwind(|| run_node(name, &[("BROWSER", browser.into()), (variable, program)]));
    *BROWSERS_LEFT.lock().unwrap() += 1;
    BROWSER_ENDED.notify_one();
    ended.unwrap_or_else(|panic| resume_unwind(panic));
}

/// Runs the tests of one file, and shows their output if one fails.
#[track_caller]
fn run_node(name: &str, variables: &[(&str, PathBuf)]) {
    let Some(node) = needed("node", find(&["node", "nodejs"])) else { return };
    // A file, because a browser that outlives its test would keep a pipe open.
    let test = thread::current().name().unwrap_or(name).to_owned();
    let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("browser-{test}.log"));
    let output = File::create(&log).expect("a file for the output");
    let mut node = command(node);
    node.args(["--test", "--test-reporter=spec"]).arg(format!("{FOLDER}/{name}.test.mjs"));
    node.env("CHAT", env!("CARGO_BIN_EXE_disposable-chat")).envs(variables.iter().cloned());
    node.stderr(output.try_clone().expect("a second handle")).stdout(output);
    // Node starts more processes. One group lets all of them be killed together.
    let mut child = node.process_group(0).spawn().expect("node runs");
    let ended = wait(&mut child, FILE_DEADLINE);
    if ended.is_none() {
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
    }
    let output = String::from_utf8_lossy(&fs::read(log).expect("it was written")).into_owned();
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{output}");
}

#[test]
fn smoke() {
    run_file("smoke", CHROMIUM);
}

#[test]
fn smoke_in_firefox() {
    run_file("smoke", FIREFOX);
}

#[test]
fn flows_in_firefox() {
    if std::env::var_os("SLOW_TESTS").is_some() {
        run_file("flows", FIREFOX);
    }
}

#[test]
fn compat_in_firefox() {
    if std::env::var_os("SLOW_TESTS").is_some() {
        run_file("compat", FIREFOX);
    }
}

/// A test for each of these files, which need no browser.
macro_rules! pure {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            run_node(stringify!($name), &[]);
        }
    )*};
}

pure! { words text link source }

/// A test for each of these files, which together take minutes.
macro_rules! slow {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            if std::env::var_os("SLOW_TESTS").is_some() {
                run_file(stringify!($name), CHROMIUM);
            }
        }
    )*};
}

slow! { served alerts compat flows start room drawing connection endings sharing hostile accessibility docs menu owner typed encrypted }
