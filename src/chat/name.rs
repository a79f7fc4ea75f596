//! Names that people pick, and when two of them are the same.
//!
//! Owns the rules for the characters. Must never know who bears a name. The invariant: a [`Name`]
//! that exists is valid, so nobody checks one twice.

use std::fmt;
use std::rc::Rc;

/// Fewest and most characters (Unicode scalar values) after trimming.
pub const NAME_CHARS_MIN: usize = 2;
/// See [`NAME_CHARS_MIN`].
pub const NAME_CHARS_MAX: usize = 50;

/// A person's name, trimmed and within the rules (contract, section 1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    shown: Rc<str>,
    /// Lower-cased; the same allocation as `shown` where that makes no difference.
    folded: Rc<str>,
}

/// Why a text is no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadName {
    /// Shorter than [`NAME_CHARS_MIN`] or longer than [`NAME_CHARS_MAX`] after trimming.
    Length,
    /// A control character, or one that turns the direction of the text around it.
    Character,
}

impl Name {
    /// Trims Unicode white space, then checks length and characters.
    pub fn parse(text: &str) -> Result<Name, BadName> {
        let text = text.trim();
        let chars = text.chars().take(NAME_CHARS_MAX + 1).count();
        if !(NAME_CHARS_MIN..=NAME_CHARS_MAX).contains(&chars) {
            return Err(BadName::Length);
        }
        if text.chars().any(is_unfit) {
            return Err(BadName::Character);
        }
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
        let counts = 2 * size_of::<usize>();
        let folded =
            if Rc::ptr_eq(&self.shown, &self.folded) { 0 } else { counts + self.folded.len() };
        counts + self.shown.len() + folded
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

/// Cc, and the bidirectional controls with which a name could rewrite the line it stands in.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, BadName>) {
        let name = Name::parse(text);
        assert_eq!(name.as_ref().map(Name::as_str), expected.as_ref().copied(), "{text:?}");
    }

    #[test]
    fn names_are_trimmed_and_measured_in_scalar_values() {
        check("ana", Ok("ana"));
        check(" \u{3000}ana \t\n", Ok("ana"));
        check("éé", Ok("éé"));
        check("a", Err(BadName::Length));
        check("   a   ", Err(BadName::Length));
        check("", Err(BadName::Length));
        check(&"🦀".repeat(50), Ok(&"🦀".repeat(50)));
        check(&"🦀".repeat(51), Err(BadName::Length));
        check(&"x".repeat(100_000), Err(BadName::Length));
    }

    #[test]
    fn controls_that_remain_after_trimming_are_refused() {
        for c in
            "\0\u{1b}\u{7f}\u{85}\u{061C}\u{200E}\u{200F}\u{202A}\u{202E}\u{2066}\u{2069}".chars()
        {
            check(&format!("an{c}a"), Err(BadName::Character));
        }
        check("\n\tana\u{85}", Ok("ana")); // Controls that are white space go with the trimming.
        check("a\u{200D}b", Ok("a\u{200D}b")); // The joiner of emoji and Indic scripts is no control.
    }

    #[test]
    fn case_makes_no_difference_between_names() {
        let folded = |text| Name::parse(text).unwrap().folded().clone();
        assert_eq!(folded("ÀNA"), folded("àna"));
        assert_ne!(folded("ana"), folded("àna"));
    }
}
