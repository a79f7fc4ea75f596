//! The instructions of a message in a hundred rooms of ten, beside more and more of everything else.
//!
//! Owns the bound that `--check` asserts. Must not read a clock, which is why a check can assert
//! this: a step that visits all rooms, sessions or connections shows at once.

use super::others::{Kind, add};
use super::{powers_of_ten, thousands};
use crate::Result;
use crate::counts::{Keeping, can_count};
use crate::instructions::message_after;
use crate::options::Options;

/// The largest relative difference that passes.
const GROWTH_MAX: f64 = 0.03;

/// The sizes that `--check` compares. All kinds are added at once.
const CHECKED: [usize; 2] = [10, 10_000];

/// The kinds, with names and the largest size of the table. Sockets are limited by descriptors.
const KINDS: &[(Kind, &str, usize)] = &[
    (Kind::Rooms, "other rooms", 100_000),
    (Kind::Sessions, "other sessions", 100_000),
    (Kind::Sockets, "other sockets, in rooms of ten", 10_000),
];

pub fn measure(options: &Options) -> Result<()> {
    if !can_count(options.keeping)? {
        return Ok(());
    }
    if options.keeping == Keeping::Ignore { print(options) } else { check(options) }
}

fn print(options: &Options) -> Result<()> {
    for (kind, name, largest) in KINDS {
        println!("| {name} | instructions per message | beside {} |", CHECKED[0]);
        println!("|---|---|---|");
        let mut first = None;
        let sizes = powers_of_ten().skip(1).take_while(|size| size <= largest);
        for size in sizes {
            let count = message_after(&options.binary, |server| add(server, *kind, size))?;
            let first = *first.get_or_insert(count);
            println!("| {} | {count:.0} | {} |", thousands(size), percent(count / first));
        }
        println!();
    }
    Ok(())
}

fn check(options: &Options) -> Result<()> {
    let beside = |size| {
        message_after(&options.binary, |server| {
            let add = |(kind, ..): &(Kind, _, _)| add(server, *kind, size);
            KINDS.iter().map(add).collect::<Result<Vec<_>>>()
        })
    };
    let (few, many) = (beside(CHECKED[0])?, beside(CHECKED[1])?);
    let [fewer, more] = CHECKED.map(thousands);
    let growth = percent(many / few);
    println!(
        "instructions of a message beside {fewer} and {more} other rooms, sessions and sockets: \
         {few:.0} and {many:.0}, {growth}"
    );
    match (many / few - 1.0).abs() <= GROWTH_MAX {
        true => Ok(()),
        false => Err(format!("a message costs {growth} beside {more} others").into()),
    }
}

fn percent(ratio: f64) -> String {
    format!("{:+.1} %", (ratio - 1.0) * 100.0)
}
