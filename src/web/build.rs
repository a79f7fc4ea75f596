//! Compresses what browsers are given, once, when the server is built.
//!
//! Owns the form in which the program carries the files beside this one: gzip (RFC 1952). Must
//! never know what is in a file, or who asks for it. The invariant: neither a name nor a time goes
//! in, so the same files make the same bytes wherever they are built.

use std::io::{self, Write};
use std::path::Path;
use std::{env, fs};

use flate2::{Compression, write::GzEncoder};

fn main() -> io::Result<()> {
    writeln!(io::stdout(), "cargo::rerun-if-changed=src/web")?;
    let to = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    compress(Path::new("src/web"), Path::new(&to))
}

/// Makes a `.gz` in `to` of each file in `from`; in folders of the same names, of what is in its
/// folders.
fn compress(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_dir() {
            compress(&path, &to.join(name))?;
        } else if !name.ends_with(".rs") {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&fs::read(&path)?)?;
            fs::write(to.join(format!("{name}.gz")), encoder.finish()?)?;
        }
    }
    Ok(())
}
