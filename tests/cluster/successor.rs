//! A server of the next version: the same program with another library of functions.
//!
//! Owns the program. Must not know what servers do. The invariant: the two versions differ in what a program
//! differs in whose functions were changed: the source of the functions, and therefore their names.
//!
//! A program has the compressed source in it. This one has another in its place, in which one function does
//! nothing.

use std::env;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use zopfli::{Format, Options};

/// The source, as the build script has compressed it: a gzip member without optional fields.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/functions.lua.gz"));
const HEAD_BYTES: usize = 10;
const TAIL_BYTES: usize = 8;

/// The function that does nothing in the next version. It is used when the store is nearly full.
const CHANGED: &str = "local function shed(P, us, node, count)\n";

/// The compressed source of the next version. It is not longer, and its content has the same length, which the
/// last bytes of a member say.
fn next_packed() -> Vec<u8> {
    let mut source = String::new();
    GzDecoder::new(PACKED).read_to_string(&mut source).expect("the source");
    let start = source.find(CHANGED).expect("the function") + CHANGED.len();
    let next = start + source[start..].find("\nlocal function ").expect("the next one");
    let end = start + source[start..next].rfind("\nend\n").expect("its end");
    let body = format!("{:1$}", "return { 'OK', '0' }", end - start);
    source.replace_range(start..end, &body);
    let mut next = Vec::new();
    zopfli::compress(Options::default(), Format::Deflate, source.as_bytes(), &mut next)
        .expect("it is compressed");
    assert!(next.len() <= PACKED.len() - HEAD_BYTES - TAIL_BYTES);
    next
}

/// The program of the next version. It is removed with this value.
pub struct Successor {
    program: PathBuf,
}

impl Successor {
    pub fn new(name: &str) -> Successor {
        let mut bytes = fs::read(env!("CARGO_BIN_EXE_disposable-chat")).expect("the program");
        let place = bytes.windows(PACKED.len()).position(|part| part == PACKED);
        let place = place.expect("the program has the functions' source") + HEAD_BYTES;
        let next = next_packed();
        bytes[place..place + next.len()].copy_from_slice(&next);
        let program = env::temp_dir().join(format!("chat-{}-{name}", std::process::id()));
        let draft = program.with_extension("draft");
        fs::write(&draft, bytes).expect("a file");
        // Another process writes the program: while this one has it open for writing, one that another test
        // starts at that moment would inherit that, and the program could not run (ETXTBSY).
        let copied = Command::new("cp").arg(&draft).arg(&program).status().expect("cp runs");
        assert!(copied.success());
        let _ = fs::remove_file(draft);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it may run");
        Successor { program }
    }

    pub fn program(&self) -> &Path {
        &self.program
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.program);
    }
}
