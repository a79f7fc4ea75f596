//! The samples of all rounds, and the table made of them.
//!
//! Owns the arithmetic. Must not know how samples are taken. The invariant: a ratio compares two
//! samples of the same round, and the median is taken of the ratios, so that a slow minute of the
//! machine cancels out. A missed goal is shown but fails nothing.

use std::fmt::{self, Display};

/// One figure measured in one round.
pub struct Sample {
    pub figure: &'static str,
    pub unit: &'static str,
    pub server: f64,
    /// The sample that it is compared with, from the same round.
    pub other: Option<f64>,
    pub goal: Goal,
    /// See [`crate::machine::Effort::disturbance`].
    pub disturbance: Option<f64>,
}

#[derive(Clone, Copy)]
pub enum Goal {
    /// Only explains another figure.
    None,
    AtLeast(f64),
    AtMost(f64),
    /// At most so much more than what it is compared with.
    MoreAtMost(f64),
    RatioAtMost(f64),
    RatioAtLeast(f64),
}

/// All rounds of one figure.
struct Row {
    figure: &'static str,
    unit: &'static str,
    goal: Goal,
    server: Vec<f64>,
    other: Vec<f64>,
    ratios: Vec<f64>,
    disturbances: Vec<f64>,
}

#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    pub fn add(&mut self, sample: Sample) {
        let Sample { figure, unit, server, other, goal, disturbance } = sample;
        let row = match self.rows.iter_mut().find(|row| row.figure == figure) {
            Some(row) => row,
            None => {
                let (server, other, ratios, disturbances) = Default::default();
                self.rows.push(Row { figure, unit, goal, server, other, ratios, disturbances });
                self.rows.last_mut().expect("just pushed")
            }
        };
        row.server.push(server);
        row.disturbances.extend(disturbance);
        if let Some(other) = other {
            row.other.push(other);
            row.ratios.push(server / other);
        }
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | rounds | server | compared with | ratio | goal | | disturbed |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        self.rows.iter().try_for_each(|row| row.fmt(f))
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, ratio) = (median(&self.server), median(&self.ratios));
        let show = |value: Option<f64>| value.map_or_else(String::new, short);
        let (goal, is_met) = match self.goal {
            Goal::None => (String::new(), None),
            Goal::AtLeast(least) => (format!("≥ {}", short(least)), server.map(|is| is >= least)),
            Goal::AtMost(most) => (format!("≤ {}", short(most)), server.map(|is| is <= most)),
            Goal::MoreAtMost(most) => {
                let pairs = self.server.iter().zip(&self.other);
                let more = median(&pairs.map(|(is, other)| is - other).collect::<Vec<_>>());
                (format!("≤ {} more", short(most)), more.map(|is| is <= most))
            }
            Goal::RatioAtMost(most) => (format!("ratio ≤ {most}"), ratio.map(|is| is <= most)),
            Goal::RatioAtLeast(least) => (format!("ratio ≥ {least}"), ratio.map(|is| is >= least)),
        };
        let word = is_met.map_or("", |is_met| if is_met { "met" } else { "missed" });
        writeln!(
            f,
            "| {}, {} | {} | {} | {} | {} | {goal} | {word} | {} |",
            self.figure,
            self.unit,
            self.server.len(),
            show(server),
            show(median(&self.other)),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            median(&self.disturbances)
                .map_or_else(String::new, |share| format!("{:.0} %", share * 100.0)),
        )
    }
}

pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) =
        (sorted.get(sorted.len().saturating_sub(1) / 2)?, sorted.get(sorted.len() / 2)?);
    Some((low + high) / 2.0)
}

/// A number with three or four significant digits.
pub fn short(value: f64) -> String {
    match value.abs() {
        1_000_000.0.. => format!("{:.2} M", value / 1e6),
        10_000.0.. => format!("{:.1} k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.0 => "0".into(),
        _ => format!("{value:.2}"),
    }
}
