//! The instruction counts that the project keeps in `counts.txt`, so that a loss of speed fails a
//! check even on a busy machine.
//!
//! Owns that file, callgrind's command line, and the comparison. Must not know what is counted:
//! `benches/load` counts whole paths of the release server and `benches/micro` single steps; each
//! name begins with its benchmark's.
//!
//! The invariant: only like is compared with like. A count depends on the compiler and on the
//! processor's architecture, so the file names both, and a check with others fails instead of
//! passing unseen.

use std::error::Error;
use std::process::Command;
use std::{env, fs};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What happens to the counts after they are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeping {
    #[default]
    Ignore,
    /// `--check`: a difference of more than [`TOLERANCE`] is an error.
    Check,
    /// `--update`: the file gets the new counts.
    Update,
}

/// The largest relative difference that passes. Runs of the same build differ by less than 0.5 %.
const TOLERANCE: f64 = 0.02;

/// A smaller relative difference does not change the file, so that noise makes no commits.
const NOISE: f64 = 0.005;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counts.txt");

const HEADER: &str = "\
# Instructions of each path, outside the kernel, as callgrind counts them.
# `.ci/counts` checks them; `.ci/counts --update` writes this file: see src/guide/performance.md.
";

const VALGRIND: &str = "valgrind";

/// A program in callgrind, which is about fifty times slower.
pub fn callgrind() -> Command {
    let mut command = Command::new(VALGRIND);
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command
}

/// The number of instructions in callgrind's last lines, `==PID== Collected : COUNT`.
pub fn collected(output: &str) -> Result<u64> {
    let line = output.lines().rev().find(|line| line.contains("Collected"));
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.ok_or_else(|| format!("callgrind has not reported a count: {output}").into())
}

/// False, with a line that says so, if callgrind is missing. An error if the counts are to be kept
/// or nothing may be skipped.
pub fn can_count(keeping: Keeping) -> Result<bool> {
    if Command::new(VALGRIND).arg("--version").output().is_ok_and(|done| done.status.success()) {
        return Ok(true);
    }
    let missing =
        "instructions are counted by callgrind (package valgrind), which is not installed";
    if keeping != Keeping::Ignore || env::var_os("REQUIRE_ALL").is_some_and(|value| value == "1") {
        return Err(missing.into());
    }
    eprintln!("skipped: {missing}");
    Ok(false)
}

/// Prints the counts of one benchmark beside those that are kept, and checks or updates the file.
/// `is_whole` says that the benchmark has no further counts.
pub fn settle(
    benchmark: &str,
    measured: &[(String, f64)],
    is_whole: bool,
    keeping: Keeping,
) -> Result<()> {
    let machine = machine()?;
    let text = fs::read_to_string(FILE).unwrap_or_default();
    let kept = Kept::parse(&text)?;
    let is_comparable = kept.machine == machine;
    println!("| path | kept | measured | difference |");
    println!("|---|---|---|---|");
    let mut faults = Vec::new();
    for (name, count) in measured {
        match kept.count(name).filter(|_| is_comparable) {
            None => {
                println!("| {name} | | {count:.0} | |");
                faults.push(format!("{name} is not in the file"));
            }
            Some(old) => {
                let difference = count / old - 1.0;
                println!("| {name} | {old} | {count:.0} | {:+.1} % |", difference * 100.0);
                if difference.abs() > TOLERANCE {
                    faults.push(format!("{name}: {:+.1} %", difference * 100.0));
                }
            }
        }
    }
    let is_ours =
        |name: &str| name.strip_prefix(benchmark).is_some_and(|rest| rest.starts_with(':'));
    let is_gone =
        |name: &str| is_whole && is_ours(name) && !measured.iter().any(|(other, _)| other == name);
    faults.extend(
        kept.counts
            .iter()
            .filter(|(name, _)| is_gone(name))
            .map(|(name, _)| format!("{name} is not measured")),
    );
    if !is_comparable {
        let of = if kept.machine.is_empty() { "nothing" } else { &kept.machine };
        let fault = format!("not compared: this is {machine}, the counts are of {of}");
        println!("{fault}");
        faults = vec![fault];
    }
    match keeping {
        Keeping::Ignore => Ok(()),
        Keeping::Check if faults.is_empty() => Ok(()),
        Keeping::Check => Err(format!(
            "the counts differ from benches/counts.txt by more than {} %: {}\n\
             If that is meant, run `.ci/counts --update` and commit the file with the change.",
            TOLERANCE * 100.0,
            faults.join("; "),
        )
        .into()),
        Keeping::Update => {
            let mut counts = if is_comparable { kept.counts } else { Vec::new() };
            counts.retain(|(name, _)| !is_gone(name));
            for (name, count) in measured {
                match counts.iter_mut().find(|(other, _)| other == name) {
                    Some((_, old)) if (count / *old - 1.0).abs() < NOISE => {}
                    Some((_, old)) => *old = count.round(),
                    None => counts.push((name.clone(), count.round())),
                }
            }
            Ok(fs::write(FILE, Kept { machine, counts }.print())?)
        }
    }
}

/// The compiler and the architecture. The compiler is that of this folder, which has built the
/// benchmark.
fn machine() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let done =
        Command::new(rustc).arg("--version").current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    Ok(format!("{} on {}", String::from_utf8(done.stdout)?.trim(), env::consts::ARCH))
}

/// The content of the file.
struct Kept {
    machine: String,
    counts: Vec<(String, f64)>,
}

/// Precedes the compiler in the file.
const COUNTED_BY: &str = "# counted by: ";

impl Kept {
    fn parse(text: &str) -> Result<Kept> {
        let mut kept = Kept { machine: String::new(), counts: Vec::new() };
        for line in text.lines() {
            if let Some(machine) = line.strip_prefix(COUNTED_BY) {
                kept.machine = machine.to_owned();
            } else if !line.starts_with('#') && !line.is_empty() {
                let (name, count) = line.rsplit_once(' ').ok_or("a line without a count")?;
                kept.counts.push((name.trim_end().to_owned(), count.parse()?));
            }
        }
        Ok(kept)
    }

    fn count(&self, name: &str) -> Option<f64> {
        self.counts.iter().find(|(other, _)| other == name).map(|(_, count)| *count)
    }

    fn print(mut self) -> String {
        self.counts.sort_by(|one, other| one.0.cmp(&other.0));
        let lines = self.counts.iter().map(|(name, count)| format!("{name:<50} {count:>7}\n"));
        format!("{HEADER}{COUNTED_BY}{}\n", self.machine) + &lines.collect::<String>()
    }
}
