//! Names that people pick, and when two of them are the same.
//!
//! Owns the rules for the characters. Must never know who bears a name. The invariant: a [`Name`]
//! that exists is valid, so nobody checks one twice.

use std::fmt;
use std::rc::Rc;

use crate::ledger::allocation;

/// Fewest and most characters (Unicode scalar values) after trimming.
pub const NAME_CHARS_MIN: usize = 2;
/// See [`NAME_CHARS_MIN`].
pub const NAME_CHARS_MAX: usize = 50;

/// A person's name, trimmed and within the rules (contract §3.1, §3.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    shown: Rc<str>,
    /// Lower-cased; the same allocation as `shown` where that makes no difference.
    folded: Rc<str>,
}

/// Fewest and most characters of a title after trimming.
pub const TITLE_CHARS_MIN: usize = 1;
/// See [`TITLE_CHARS_MIN`].
pub const TITLE_CHARS_MAX: usize = 80;

/// A room's title, trimmed and within the rules (contract §10.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Title(Box<str>);

impl Title {
    /// Trims Unicode white space, then checks length and characters as for names.
    pub fn parse(text: &str) -> Result<Title, BadName> {
        let text = check(text, TITLE_CHARS_MIN, TITLE_CHARS_MAX)?;
        Ok(Title(text.into()))
    }

    /// As its author wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no name, or no title.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadName {
    /// Too short or too long after trimming: [`NAME_CHARS_MIN`] to [`NAME_CHARS_MAX`] characters,
    /// or [`TITLE_CHARS_MIN`] to [`TITLE_CHARS_MAX`].
    Length,
    /// A control character, or one that turns the direction of the text around it.
    Character,
}

impl Name {
    /// Trims Unicode white space, then checks length and characters.
    pub fn parse(text: &str) -> Result<Name, BadName> {
        let text = check(text, NAME_CHARS_MIN, NAME_CHARS_MAX)?;
        let shown: Rc<str> = text.into();
        let folded = text.to_lowercase();
        let folded = if *folded == *text { shown.clone() } else { folded.into() };
        Ok(Name { shown, folded })
    }

    /// As the person wrote it.
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// What two names are compared by: equal after Unicode lower-casing means the same name.
    pub fn folded(&self) -> &Rc<str> {
        &self.folded
    }

    /// Bytes of heap held.
    pub fn bytes(&self) -> usize {
        let counted = |text: &str| allocation(2 * size_of::<usize>() + text.len());
        let is_same = Rc::ptr_eq(&self.shown, &self.folded);
        counted(&self.shown) + if is_same { 0 } else { counted(&self.folded) }
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadName::Length => write!(
                f,
                "A username has {NAME_CHARS_MIN} to {NAME_CHARS_MAX} characters after trimming."
            ),
            BadName::Character => f.write_str(
                "A username must not contain control characters or bidirectional controls.",
            ),
        }
    }
}

fn check(text: &str, chars_min: usize, chars_max: usize) -> Result<&str, BadName> {
    let text = text.trim();
    let chars = text.chars().take(chars_max + 1).count();
    if !(chars_min..=chars_max).contains(&chars) {
        return Err(BadName::Length);
    }
    if text.chars().any(is_unfit) { Err(BadName::Character) } else { Ok(text) }
}

/// Cc, and the bidirectional controls with which a name could rewrite the line it stands in.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str, expected: Result<&str, BadName>) {
        let name = Name::parse(text);
        assert_eq!(name.as_ref().map(Name::as_str), expected.as_ref().copied(), "{text:?}");
    }

    // contract §10.2
    #[test]
    fn titles_keep_the_rules_of_names_but_may_be_longer() {
        assert_eq!(Title::parse(" x ").unwrap().as_str(), "x");
        assert_eq!(Title::parse("  "), Err(BadName::Length));
        assert!(Title::parse(&"🦀".repeat(80)).is_ok());
        assert_eq!(Title::parse(&"x".repeat(81)), Err(BadName::Length));
        assert_eq!(Title::parse("a\u{202E}b"), Err(BadName::Character));
    }

    // contract §3.1
    #[test]
    fn names_are_trimmed_and_measured_in_scalar_values() {
        name("ana", Ok("ana"));
        name(" \u{3000}ana \t\n", Ok("ana"));
        name("éé", Ok("éé"));
        name("a", Err(BadName::Length));
        name("   a   ", Err(BadName::Length));
        name("", Err(BadName::Length));
        name(&"🦀".repeat(50), Ok(&"🦀".repeat(50)));
        name(&"🦀".repeat(51), Err(BadName::Length));
        name(&"x".repeat(100_000), Err(BadName::Length));
    }

    // contract §3.2
    #[test]
    fn controls_that_remain_after_trimming_are_refused() {
        for c in
            "\0\u{1b}\u{7f}\u{85}\u{061C}\u{200E}\u{200F}\u{202A}\u{202E}\u{2066}\u{2069}".chars()
        {
            name(&format!("an{c}a"), Err(BadName::Character));
        }
        name("\n\tana\u{85}", Ok("ana")); // Controls that are white space go with the trimming.
        name("a\u{200D}b", Ok("a\u{200D}b")); // The joiner of emoji and Indic scripts is no control.
    }

    // contract §3.4
    #[test]
    fn case_makes_no_difference_between_names() {
        let folded = |text| Name::parse(text).unwrap().folded().clone();
        assert_eq!(folded("ÀNA"), folded("àna"));
        assert_ne!(folded("ana"), folded("àna"));
    }
}
