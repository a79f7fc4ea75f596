//! Proves that the tests of the functions find bugs: with each fault of `planted.txt` planted in the
//! library, the test that is named there fails on the model.
//!
//! Owns the form of that file. Must not know what the faults are. The invariant: a fault is planted in
//! exactly one place, so one that no longer fits the source is a failure too.
//!
//! A fault begins with `# `, what is wrong then, and the test that finds it. Lines of the source follow, as
//! in a patch: those with `-` are replaced by those with `+`, others show the place.

use std::env;
use std::process::{Command, Stdio};

use super::SOURCE;

const FAULTS: &str = include_str!("planted.txt");

/// The number of the fault that this process has planted.
const PLANTED: &str = "PLANTED_FAULT";

struct Fault {
    title: &'static str,
    found_by: &'static str,
    before: String,
    after: String,
}

fn faults() -> Vec<Fault> {
    let mut faults = Vec::<Fault>::new();
    for line in FAULTS.lines().filter(|line| !line.is_empty()) {
        if let Some(title) = line.strip_prefix("# ") {
            let (title, found_by) =
                title.split_once(": ").expect("a fault and the test that finds it");
            faults.push(Fault { title, found_by, before: "\n".into(), after: "\n".into() });
            continue;
        }
        let fault = faults.last_mut().expect("a fault begins with its title");
        let (sign, code) = line.split_at(2);
        let code = format!("{code}\n");
        if sign != "+ " {
            fault.before += &code;
        }
        if sign != "- " {
            fault.after += &code;
        }
    }
    faults
}

/// The number of the fault that is to be found by this process, if there is one.
pub fn planted() -> Option<usize> {
    env::var(PLANTED).ok().map(|number| number.parse().expect("the number of a fault"))
}

/// The library's source, with the fault that is to be found.
pub fn source() -> String {
    let Some(number) = planted() else { return SOURCE.to_owned() };
    let Fault { title, before, after, .. } = &faults()[number];
    assert_eq!(SOURCE.matches(before).count(), 1, "where to plant: {title}");
    SOURCE.replace(before, after)
}

#[test]
fn planted_faults_are_found() {
    let program = env::current_exe().expect("this program");
    let mut missed = Vec::new();
    for (number, Fault { title, found_by, before, .. }) in faults().iter().enumerate() {
        if SOURCE.matches(before).count() != 1 {
            missed.push(format!("{title}: it does not fit the source"));
            continue;
        }
        let mut run = Command::new(&program);
        run.args(["--exact", &format!("functions::{found_by}")]).env(PLANTED, number.to_string());
        let output = run.stderr(Stdio::null()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        if !said.contains("test result: FAILED. 0 passed; 1 failed") {
            missed.push(format!("{title}: {found_by} still passes"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
