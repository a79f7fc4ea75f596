//! The suite through a balancer (`CHAT_NODES`): what it leaves out.

use std::process::Command;

use crate::server::front::exceptions::EXCEPTIONS;

#[test]
fn each_exception_names_a_test() {
    let program = std::env::current_exe().expect("a path");
    let output = Command::new(program).arg("--list").output().expect("it runs");
    let list = String::from_utf8(output.stdout).expect("text");
    let tests: Vec<&str> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    for (name, _, reason) in EXCEPTIONS {
        let names_one = tests
            .iter()
            .any(|test| test == name || (name.ends_with("::") && test.starts_with(name)));
        assert!(names_one, "no test is named {name}");
        assert!(!reason.is_empty());
    }
    let mut names: Vec<&str> = EXCEPTIONS.iter().map(|(name, _, _)| *name).collect();
    assert!(names.is_sorted(), "the list is in alphabetical order");
    names.dedup();
    assert_eq!(names.len(), EXCEPTIONS.len(), "a name is listed twice");
}
