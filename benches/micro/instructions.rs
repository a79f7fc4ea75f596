//! The steps whose instructions are counted: this program runs itself under callgrind, twice for
//! each step, with few and with many repetitions.
//!
//! Owns the list of steps and this benchmark's arguments for it. Must not know how a step is taken.

use std::process::Command;
use std::{env, thread};

use crate::counts::{self, Keeping, Result, callgrind, can_count, collected};
use crate::{context, events, fan_out, http, rooms, timers};

/// A name, the repetitions of the shorter and the longer run, and the function that runs them.
type Step = (&'static str, [usize; 2], fn(usize));

const STEPS: &[Step] = &[
    ("parse a text frame", [100, 5100], context::count_text_frame),
    ("parse a chat event", [100, 5100], events::count_parse),
    ("encode a message", [100, 5100], events::count_encode),
    ("parse a browser's request head", [100, 5100], http::count_head),
    ("match 8 KB of slashes", [10, 110], http::count_path),
    ("find the parameters in 8 KB of query", [10, 110], http::count_query),
    ("re-arm a timer", [1000, 51_000], timers::count_rearm),
    ("message to its sender", [50, 1050], fan_out::count_one),
    ("message to a hundred", [10, 110], fan_out::count_hundred),
    ("connect, join, close", [50, 350], rooms::count_visit),
    ("ten messages by REST", [50, 550], rooms::count_resume),
    ("open and delete a room, list a thousand", [10, 60], rooms::count_listing),
];

/// The arguments with which this program runs itself: then the name and the repetitions.
const REPEAT: &str = "--repeat";

/// `None` if the arguments do not ask for counts.
pub fn run(arguments: &[String]) -> Option<Result<()>> {
    match arguments.first()?.as_str() {
        "--instructions" => Some(measure(&arguments[1..])),
        REPEAT => Some(repeat(&arguments[1..])),
        _ => None,
    }
}

fn measure(arguments: &[String]) -> Result<()> {
    let mut keeping = Keeping::Ignore;
    for argument in arguments {
        match argument.as_str() {
            "--check" => keeping = Keeping::Check,
            "--update" => keeping = Keeping::Update,
            "--bench" => {} // Cargo adds it.
            unknown => return Err(format!("unknown: {unknown}").into()),
        }
    }
    if !can_count(keeping)? {
        return Ok(());
    }
    let program = env::current_exe()?;
    let mut measured = Vec::new();
    for (name, times, _) in STEPS {
        let run = |times: usize| {
            let mut command: Command = callgrind();
            let done = command.arg(&program).args([REPEAT, name, &times.to_string()]).output()?;
            collected(&String::from_utf8_lossy(&done.stderr))
        };
        let each = per_repetition(*times, run).map_err(|error| format!("{name}: {error}"))?;
        measured.push((format!("micro: {name}"), each));
    }
    counts::settle("micro", &measured, true, keeping)
}

fn repeat(arguments: &[String]) -> Result<()> {
    let [name, times] = arguments else { return Err("a name and a number are expected".into()) };
    let (.., step) = STEPS.iter().find(|(other, ..)| other == name).ok_or("no such step")?;
    step(times.parse()?);
    Ok(())
}

/// The instructions of one repetition: the difference of a run with many repetitions and one with
/// few, so that start and end cancel out. Both run at the same time.
fn per_repetition(
    [few, many]: [usize; 2],
    run: impl Fn(usize) -> Result<u64> + Sync,
) -> Result<f64> {
    let run = |times| run(times).map_err(|error| error.to_string());
    let (few_count, many_count) = thread::scope(|scope| {
        let short = scope.spawn(|| run(few));
        let long = run(many);
        (short.join().unwrap_or_else(|_| Err("the shorter run has panicked".into())), long)
    });
    let more = many_count?.checked_sub(few_count?).ok_or("more repetitions took less")?;
    Ok(more as f64 / (many - few) as f64)
}
