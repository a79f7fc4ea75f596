//! The options of the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::Result;
use crate::counts::Keeping;
use crate::server::BINARY;

pub const HELP: &str = "\
cargo bench --bench load -- [OPTIONS]

  --rounds N      measure each figure N times; the table shows medians (5)
  --secs S        length of each measurement in seconds (2)
  --only NAME     measure only this figure (names are printed on stderr); repeatable
  --growth        measure how costs grow with members, rooms, sessions, sockets and messages;
                  with --instructions, how the instructions of a message do
  --instructions  count the instructions that the server executes for a message, a coming and
                  going, and a request, with callgrind (part of valgrind); other load on the
                  machine has no effect
  --check         with --instructions: fail if a count differs by more than 2 % from
                  benches/counts.txt, or with --growth if it grows by more than 3 %
  --update        with --instructions: write benches/counts.txt
  --cluster       measure several servers on one store, compared with one server; needs
                  redis-server or valkey-server, and `cargo bench --features cluster` or
                  --server with such a build
  --store PATH    the store's program (redis-server or valkey-server in PATH, or what VALKEY_SERVER
                  names)
  --server PATH   measure this build of the server, to compare it with the one built here
  --short         small and quick, to test that everything runs; the figures mean nothing
  --against URL   measure a running server with the same API; its limits must be switched
                  off (see benches/load/server.rs)
  --pid N         the process of that server, to measure its processor time and memory
";

#[derive(Clone, Debug)]
pub struct Options {
    pub rounds: usize,
    pub measured: Duration,
    pub only: Vec<String>,
    pub growth: bool,
    pub instructions: bool,
    pub keeping: Keeping,
    pub cluster: bool,
    pub store: Option<PathBuf>,
    /// The server that is started for each measurement.
    pub binary: PathBuf,
    pub short: bool,
    pub against: Option<String>,
    pub process: Option<u32>,
    pub help: bool,
}

impl Options {
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Options> {
        let mut options = Options {
            rounds: 5,
            measured: Duration::from_secs(2),
            only: Vec::new(),
            growth: false,
            instructions: false,
            keeping: Keeping::Ignore,
            cluster: false,
            store: None,
            binary: BINARY.into(),
            short: false,
            against: None,
            process: None,
            help: false,
        };
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("rounds") => options.rounds = parser.value()?.parse()?,
                Long("secs") => {
                    options.measured = Duration::try_from_secs_f64(parser.value()?.parse()?)?;
                }
                Long("only") => options.only.push(parser.value()?.string()?),
                Long("growth") => options.growth = true,
                Long("instructions") => options.instructions = true,
                Long("check") => options.keeping = Keeping::Check,
                Long("update") => options.keeping = Keeping::Update,
                Long("cluster") => options.cluster = true,
                Long("store") => options.store = Some(parser.value()?.into()),
                Long("server") => options.binary = parser.value()?.into(),
                Long("short") => {
                    options.short = true;
                    options.rounds = 1;
                    options.measured = Duration::from_millis(100);
                }
                Long("against") => options.against = Some(parser.value()?.string()?),
                Long("pid") => options.process = Some(parser.value()?.parse()?),
                Long("help") => options.help = true,
                Long("bench") => {} // Cargo adds it.
                unexpected => return Err(unexpected.unexpected().into()),
            }
        }
        Ok(options)
    }

    /// Fails if `--only` names a figure that is not among these.
    pub fn check_names(&self, names: &[&str]) -> Result<()> {
        match self.only.iter().find(|only| !names.contains(&only.as_str())) {
            Some(name) => Err(format!("{name} is not one of {}", names.join(", ")).into()),
            None => Ok(()),
        }
    }

    /// Whether this figure is to be measured.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}
