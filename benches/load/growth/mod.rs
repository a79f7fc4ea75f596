//! How costs grow: each table multiplies one number by ten, a hundred, and so on.
//!
//! Owns the sizes. Must not know how a table is measured. The invariant that the tables should show:
//! the time per delivery does not grow with the size of the room, nor with the number of other
//! rooms, sessions and sockets. (Caches of the processor can make a column grow; then the
//! yardstick's grows too.)

use crate::Result;
use crate::options::Options;
use crate::trials::Lab;

mod counted;
mod listing;
mod members;
mod others;
mod resume;

/// A name, the largest size, and the function that prints the table for all sizes up to it.
type Table = (&'static str, usize, fn(&Lab, &[usize]) -> Result<()>);

const TABLES: &[Table] = &[
    ("members", 10_000, members::print),
    ("rooms", 100_000, |lab, sizes| others::print(lab, others::Kind::Rooms, sizes)),
    ("sessions", 1_000_000, |lab, sizes| others::print(lab, others::Kind::Sessions, sizes)),
    ("sockets", 10_000, |lab, sizes| others::print(lab, others::Kind::Sockets, sizes)),
    ("listing", 100_000, listing::print),
    ("resume", 10_000, resume::print),
];

/// The largest size with `--short`.
const SHORT: usize = 100;

pub fn measure(options: &Options) -> Result<()> {
    options.check_names(&TABLES.iter().map(|(name, ..)| *name).collect::<Vec<_>>())?;
    if options.against.is_some() {
        return Err(
            "--growth needs a fresh server for each row, so --against is not possible".into()
        );
    }
    if options.instructions {
        return counted::measure(options);
    }
    let lab = Lab::open(options)?;
    for (name, largest, print) in TABLES.iter().filter(|(name, ..)| options.wants(name)) {
        eprintln!("growth: {name}");
        let most = if options.short { SHORT } else { *largest };
        let sizes: Vec<usize> = powers_of_ten().take_while(|size| *size <= most).collect();
        print(&lab, &sizes).map_err(|error| format!("{name}: {error}"))?;
        println!();
    }
    Ok(())
}

fn powers_of_ten() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |size: &usize| size.checked_mul(10))
}

fn thousands(size: usize) -> String {
    let digits = size.to_string();
    let mut out = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
