//! The page as people have it: Chromium, by npm's playwright-core, against the real server over real sockets. The
//! tests themselves are the files `*.test.mjs`, for Node's own test runner; `stage.mjs` is what they stand on. This
//! file runs each of them as one test, so `cargo test --test browser` is all there is to know.
//!
//! Only the smoke test always runs, the others with `SLOW_TESTS=1`. What the machine lacks (node, chromium,
//! `npm ci` in this folder) is said, and fails with `REQUIRE_ALL=1`. By hand: `node --test tests/browser`.

// What finds and runs other people's programs; these tests need only some of it.
#[allow(dead_code)]
#[path = "../clients/program.rs"]
mod program;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use program::{command, find, needed, wait};

/// How long one file may take, on a machine that runs others beside it.
const FILE_DEADLINE: Duration = Duration::from_secs(600);

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");

/// Runs the tests of one file, and shows what they say if one fails.
#[track_caller]
fn play(name: &str) {
    let chromium = needed("chromium", find(&["chromium", "chromium-browser", "google-chrome"]));
    let node = needed("node", find(&["node", "nodejs"]));
    let modules = Path::new(FOLDER).join("node_modules/playwright-core");
    let modules = needed("`npm ci` in tests/browser", modules.exists().then_some(()));
    let (Some(chromium), Some(node), Some(())) = (chromium, node, modules) else { return };
    // Not a pipe: a browser that outlived its test would keep it open.
    let said = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("browser-{name}.log"));
    let output = File::create(&said).expect("a file for what it says");
    let mut node = command(node);
    node.args(["--test", "--test-reporter=spec"]).arg(format!("{FOLDER}/{name}.test.mjs"));
    node.env("CHAT", env!("CARGO_BIN_EXE_disposable-chat")).env("CHROMIUM", chromium);
    node.stderr(output.try_clone().expect("a second handle")).stdout(output);
    // Node runs the file in a process of its own, so all are ended together.
    let mut child = node.process_group(0).spawn().expect("node runs");
    let ended = wait(&mut child, FILE_DEADLINE);
    if ended.is_none() {
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
    }
    let said = String::from_utf8_lossy(&fs::read(said).expect("it was written")).into_owned();
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{said}");
}

#[test]
fn smoke() {
    play("smoke");
}

/// A test for each of these files, for who has the time.
macro_rules! slow {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            if std::env::var_os("SLOW_TESTS").is_some() {
                play(stringify!($name));
            }
        }
    )*};
}

slow! { start room line endings outside hostile everybody }
