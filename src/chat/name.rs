//! The names of people and the titles of rooms.
//!
//! Owns the rules for valid names and titles, and for when two names are the same. Must not know
//! which session has a name. The invariant: every [`Name`] and [`Title`] is valid, so that it need
//! not be checked again.

use std::fmt;

use super::error::BadName;
use super::limits::{NAME_CHARS_MAX, NAME_CHARS_MIN, TITLE_CHARS_MAX, TITLE_CHARS_MIN};
use super::visible::{has_visible, is_ignorable};
use crate::ledger::allocation;

/// The name of a message's sender, as it is shown.
///
/// It has been a `str`, and becomes one again where a `str` is needed. In between it is bytes: checking
/// that they are UTF-8 took 140 instructions for each message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UserName<'a>(&'a [u8]);

impl<'a> UserName<'a> {
    /// From the bytes of a name in a record.
    pub(super) fn of(bytes: &'a [u8]) -> UserName<'a> {
        UserName(bytes)
    }

    /// The name in UTF-8.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The name.
    pub fn as_str(self) -> &'a str {
        std::str::from_utf8(self.0).unwrap_or_default()
    }
}

impl<'a> From<&'a str> for UserName<'a> {
    fn from(name: &'a str) -> UserName<'a> {
        UserName(name.as_bytes())
    }
}

impl fmt::Debug for UserName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A person's name, trimmed and valid (contract §3.1, §3.2, §3.16).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name(NameText);

/// The name as the client sent it and, if its lower-case form is another text, that form after it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum NameText {
    /// Most names are so short that they need no allocation.
    Short { shown_bytes: u8, bytes: u8, text: [u8; SHORT_BYTES_MAX] },
    /// A name has at most 200 bytes.
    Long { shown_bytes: u8, text: Box<str> },
}

/// A name takes 24 bytes: these, two lengths, and which variant it is.
const SHORT_BYTES_MAX: usize = 21;
const _: () = assert!(size_of::<Name>() <= 24 && 4 * NAME_CHARS_MAX <= u8::MAX as usize);

/// A room's title, trimmed and valid (contract §10.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Title(Box<str>);

impl Title {
    /// Trims Unicode white space, then checks the length and, as for names, the characters.
    pub fn parse(text: &str) -> Result<Title, BadName> {
        visible(Title::restored(text)?, Title::as_str)
    }

    /// The same for a title of a state file, which may have no visible character: the first edition
    /// of the contract allowed it.
    pub(super) fn restored(text: &str) -> Result<Title, BadName> {
        let text = check(text, TITLE_CHARS_MIN, TITLE_CHARS_MAX)?;
        Ok(Title(text.into()))
    }

    /// The title as the client sent it, trimmed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Name {
    /// Takes the place of a name that must not stay in memory.
    pub(super) const BLANK: Name =
        Name(NameText::Short { shown_bytes: 0, bytes: 0, text: [0; SHORT_BYTES_MAX] });

    /// Trims Unicode white space, then checks the length and the characters.
    pub fn parse(text: &str) -> Result<Name, BadName> {
        visible(Name::restored(text)?, Name::as_str)
    }

    /// The same for a name of a state file, which may have no visible character: the first edition
    /// of the contract allowed it.
    pub(super) fn restored(text: &str) -> Result<Name, BadName> {
        let text = check(text, NAME_CHARS_MIN, NAME_CHARS_MAX)?;
        let folded = fold(text);
        let shown_bytes = text.len() as u8;
        Ok(Name(match *folded == *text {
            true => NameText::new(text, shown_bytes),
            false => NameText::new(&[text, &folded].concat(), shown_bytes),
        }))
    }

    /// The name as the client sent it, trimmed.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            NameText::Short { shown_bytes, text, .. } => utf8(text, 0, *shown_bytes),
            NameText::Long { shown_bytes, text } => {
                text.get(..usize::from(*shown_bytes)).unwrap_or_default()
            }
        }
    }

    /// The same, for a message.
    pub fn shown(&self) -> UserName<'_> {
        match &self.0 {
            NameText::Short { shown_bytes, text, .. } => {
                UserName(text.get(..usize::from(*shown_bytes)).unwrap_or_default())
            }
            NameText::Long { .. } => self.as_str().into(),
        }
    }

    /// The name in lower case (Unicode) without ignorable characters. Two names are the same if these
    /// are equal (contract §3.4, §3.17).
    pub fn folded(&self) -> &str {
        let folded = match &self.0 {
            NameText::Short { shown_bytes, bytes, text } => utf8(text, *shown_bytes, *bytes),
            NameText::Long { shown_bytes, text } => {
                text.get(usize::from(*shown_bytes)..).unwrap_or_default()
            }
        };
        if folded.is_empty() { self.as_str() } else { folded }
    }

    /// Bytes of heap held.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            NameText::Short { .. } => 0,
            NameText::Long { text, .. } => allocation(text.len()),
        }
    }
}

impl NameText {
    fn new(both: &str, shown_bytes: u8) -> NameText {
        let mut text = [0; SHORT_BYTES_MAX];
        match text.get_mut(..both.len()) {
            Some(short) => {
                short.copy_from_slice(both.as_bytes());
                NameText::Short { shown_bytes, bytes: both.len() as u8, text }
            }
            None => NameText::Long { shown_bytes, text: both.into() },
        }
    }
}

/// A part of a short name. The range is one of characters by construction.
fn utf8(text: &[u8], start: u8, end: u8) -> &str {
    let part = text.get(start.into()..end.into()).map(std::str::from_utf8);
    part.and_then(Result::ok).unwrap_or_default()
}

/// A name in the form in which names are compared. Empty if it shows nothing.
///
/// Ignorable characters are left out first: the lower case of a sigma depends on what follows it.
/// White space that was beside them would be trimmed, too.
fn fold(text: &str) -> String {
    if !text.chars().any(is_ignorable) {
        return text.to_lowercase();
    }
    let mut kept = String::new();
    text.chars().filter(|c| !is_ignorable(*c)).for_each(|c| kept.push(c));
    kept.trim().to_lowercase()
}

/// Refuses a name or a title that shows nothing.
fn visible<T>(name: T, text: fn(&T) -> &str) -> Result<T, BadName> {
    if has_visible(text(&name)) { Ok(name) } else { Err(BadName::Invisible) }
}

fn check(text: &str, chars_min: usize, chars_max: usize) -> Result<&str, BadName> {
    let text = text.trim();
    let chars = text.chars().take(chars_max + 1).count();
    if !(chars_min..=chars_max).contains(&chars) {
        return Err(BadName::Length);
    }
    if text.chars().any(is_invalid) { Err(BadName::Character) } else { Ok(text) }
}

/// Whether `c` is a control character (Cc), or a bidirectional control, which could reorder the
/// text around a name.
fn is_invalid(c: char) -> bool {
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
    fn titles_follow_the_rules_of_names_with_other_lengths() {
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
    fn a_name_with_a_control_character_is_refused() {
        for c in
            "\0\u{1b}\u{7f}\u{85}\u{061C}\u{200E}\u{200F}\u{202A}\u{202E}\u{2066}\u{2069}".chars()
        {
            name(&format!("an{c}a"), Err(BadName::Character));
        }
        name("\n\tana\u{85}", Ok("ana")); // Controls that are white space are trimmed.
        name("a\u{200D}b", Ok("a\u{200D}b")); // Emoji and Indic scripts need the joiner.
    }

    // contract §3.4
    #[test]
    fn names_that_differ_in_case_are_the_same() {
        let folded = |text| Name::parse(text).unwrap().folded().to_owned();
        assert_eq!(folded("ÀNA"), folded("àna"));
        assert_ne!(folded("ana"), folded("àna"));
    }

    // contract §3.17
    #[test]
    fn ignorable_characters_make_no_other_name() {
        let folded = |text| Name::parse(text).unwrap().folded().to_owned();
        let same =
            ["Maria", "maria\u{200b}", "\u{feff}MA\u{ad}R\u{2060}IA", "Maria \u{200b}\u{fe0f}"];
        for name in same {
            assert_eq!(folded(name), "maria");
            assert_eq!(Name::parse(name).unwrap().as_str(), name, "it is shown as it was sent");
        }
        // The last of these is a final sigma, whatever ignorable characters follow it.
        for name in ["ΑΣ", "ΑΣ\u{200b}", "ΑΣ\u{3164}", "Α\u{3164}Σ"] {
            assert_eq!(folded(name), "ας", "{name:?}");
        }
        assert_ne!(folded("Maria"), folded("Mar ia"));
        assert_ne!(folded("Maria"), folded("Maria\u{2800}"), "a letter, although an empty one");
        assert_ne!(folded("José"), folded("Jose\u{301}"), "no canonical equivalence");
    }

    // contract §3.16
    #[test]
    fn names_and_titles_have_a_visible_character() {
        for blank in
            ["\u{200b}\u{200b}", "\u{2800}\u{2800}", "\u{3164} \u{3164}", "\u{feff}\u{180e}"]
        {
            name(blank, Err(BadName::Invisible));
            assert_eq!(Title::parse(blank), Err(BadName::Invisible));
            // A state file may have them. Each is a name of its own.
            assert_eq!(Name::restored(blank).unwrap().folded(), blank);
            assert_eq!(Title::restored(blank).unwrap().as_str(), blank);
        }
        name("\u{200b}a", Ok("\u{200b}a"));
        assert!(Title::parse("\u{2800}.").is_ok());
    }

    #[test]
    fn a_name_is_read_as_it_was_written_whether_or_not_it_needs_an_allocation() {
        for (text, folded, bytes) in [
            ("ana", "ana", 0),
            ("Ana", "ana", 0),
            (&*"x".repeat(21), &*"x".repeat(21), 0),
            (&"x".repeat(22), &"x".repeat(22), 32),
            ("ABCDEFGHIJ", "abcdefghij", 0),
            ("ABCDEFGHIJK", "abcdefghijk", 32),
            (&"Ä".repeat(50), &"ä".repeat(50), 208),
        ] {
            let name = Name::parse(text).unwrap();
            assert_eq!((name.as_str(), name.folded()), (text, folded));
            assert!(cfg!(not(target_pointer_width = "64")) || name.bytes() == bytes, "{text}");
        }
    }
}
