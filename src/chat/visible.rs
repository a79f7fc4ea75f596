//! Which characters show something.
//!
//! Owns the lists of characters that show nothing. Must not know where a text stands. The invariant:
//! [`is_ignorable`] is Unicode's property `Default_Ignorable_Code_Point`, which a test compares with
//! the tables of another crate. It is written down here because its 17 ranges take less than a table
//! would: Unicode reserves them in advance, so that they hardly ever change.

/// Whether a text has a character that shows something (contract §3.16).
#[inline]
pub(super) fn has_visible(text: &str) -> bool {
    // Most texts begin with such a character of ASCII, which is seen without decoding.
    let is_graphic = text.as_bytes().first().is_some_and(u8::is_ascii_graphic);
    is_graphic || any_visible(text)
}

#[inline(never)] // Inlined, it takes registers from the path of each message.
fn any_visible(text: &str) -> bool {
    text.chars().any(|c| !c.is_whitespace() && !is_blank(c))
}

/// Whether a character has no shape of its own, or an empty one: the pattern of Braille without dots
/// is the only empty letter that is not ignorable.
fn is_blank(c: char) -> bool {
    c == '\u{2800}' || is_ignorable(c)
}

/// Whether a character is shown by nothing where a font lacks it (Unicode's
/// `Default_Ignorable_Code_Point`): joiners, selectors, fillers of Hangul, tags.
pub(super) fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{AD}'
            | '\u{34F}'
            | '\u{61C}'
            | '\u{115F}'..='\u{1160}'
            | '\u{17B4}'..='\u{17B5}'
            | '\u{180B}'..='\u{180F}'
            | '\u{200B}'..='\u{200F}'
            | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{3164}'
            | '\u{FE00}'..='\u{FE0F}'
            | '\u{FEFF}'
            | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFF8}'
            | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E0FFF}'
    )
}

#[cfg(test)]
mod tests {
    use regex_syntax::hir::{Class, HirKind};

    use super::*;

    #[test]
    fn the_ignorable_characters_are_those_of_unicode() {
        let property = regex_syntax::parse(r"\p{Default_Ignorable_Code_Point}").unwrap();
        let HirKind::Class(Class::Unicode(class)) = property.kind() else { panic!("{property}") };
        let ignorable = |c| class.iter().any(|range| (range.start()..=range.end()).contains(&c));
        for c in '\0'..=char::MAX {
            assert_eq!(is_ignorable(c), ignorable(c), "{c:?}");
        }
    }

    // contract §3.16
    #[test]
    fn white_space_ignorable_characters_and_blank_letters_are_not_visible() {
        let blank = "\t\n\u{b}\u{85}\u{a0}\u{1680}\u{2028}\u{202f}\u{3000} \u{ad}\u{34f}\u{115f}\u{1160}\
            \u{180e}\u{200b}\u{200d}\u{2060}\u{2800}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{e0041}";
        for (at, c) in blank.char_indices() {
            assert!(!has_visible(&blank[at..at + c.len_utf8()]), "{c:?}");
        }
        assert!(!has_visible("") && !has_visible(blank));
        for visible in ["a", ".", "é", "\u{301}", "가", "\u{2801}", "🦀", "\u{0}", "\u{e000}"] {
            for text in [visible, &format!("{blank}{visible}"), &format!("{visible}{blank}")] {
                assert!(has_visible(text), "{text:?}");
            }
        }
    }
}
