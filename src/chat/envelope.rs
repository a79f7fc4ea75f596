//! The form of envelopes: the chats of rooms whose words the server cannot read.
//!
//! Owns the check of the form `e1` (contract §15.2). Must not know a key: the server stores and passes
//! on envelopes. The invariant: the form is canonical, so that two different texts are never the same
//! envelope.

/// The beginning of an envelope.
const PREFIX: &str = "e1.";

/// Most characters of an envelope.
const ENVELOPE_CHARS_MAX: usize = 22_000;

/// Bytes of the nonce and the tag of AES-GCM.
const OVERHEAD_BYTES: usize = 12 + 16;

/// The plaintext is padded to a multiple of this.
const BLOCK_BYTES: usize = 64;

/// Whether a text is an envelope: the prefix, and base64url without padding (RFC 4648 §5) of a nonce,
/// one or more blocks of ciphertext, and a tag.
pub(super) fn is_envelope(text: &str) -> bool {
    let Some(encoded) = text.strip_prefix(PREFIX) else { return false };
    if text.len() > ENVELOPE_CHARS_MAX || encoded.len() % 4 == 1 {
        return false;
    }
    let bytes = encoded.len() * 3 / 4;
    let unused_bits = encoded.len() * 6 - bytes * 8;
    let (mut last, mut all) = (0, 0);
    for character in encoded.bytes() {
        last = value(character);
        all |= last;
    }
    // RFC 4648 §3.5: in the canonical form the unused bits are zero.
    let is_canonical = all < INVALID && last & ((1 << unused_bits) - 1) == 0;
    let cipher_bytes = bytes.saturating_sub(OVERHEAD_BYTES);
    is_canonical && cipher_bytes > 0 && cipher_bytes % BLOCK_BYTES == 0
}

/// No character of base64url has this value, nor has any combination of their values its bit.
const INVALID: u8 = 64;

fn value(character: u8) -> u8 {
    match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => INVALID,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An envelope of so many zero bytes.
    fn zeros(bytes: usize) -> String {
        format!("{PREFIX}{}", "A".repeat((bytes * 8).div_ceil(6)))
    }

    // contract §15.2
    #[test]
    fn an_envelope_has_whole_blocks_in_canonical_base64url() {
        for blocks in 1..20 {
            assert!(is_envelope(&zeros(28 + 64 * blocks)), "{blocks}");
        }
        for bytes in [0, 1, 27, 28, 29, 28 + 63, 28 + 65, 28 + 127] {
            assert!(!is_envelope(&zeros(bytes)), "{bytes}");
        }
        assert!(is_envelope(&zeros(28 + 64 * 257)) && !is_envelope(&zeros(28 + 64 * 258)));
        let good = zeros(28 + 64);
        let without = &good[..good.len() - 1];
        let bad = [
            good.replace("e1.", "E1."),
            good.replace("e1.", "e2."),
            good.replace("e1.", "e1"),
            format!(" {good}"),
            format!("{good}\n"),
            format!("{good}="),
            format!("{good}A"),
            without.to_owned(),
            String::new(),
            "e1.".to_owned(),
        ];
        for text in bad {
            assert!(!is_envelope(&text), "{text}");
        }
        for odd in ["+", "/", "=", "é", "\u{0}", ".", "@", "[", "`", "{", ":"] {
            let start = &good[..good.len() - 2 * odd.len()];
            assert!(
                !is_envelope(&format!("{start}{odd}A")) && !is_envelope(&format!("{without}{odd}"))
            );
        }
        // 92 bytes are 123 characters, of which the last has two unused bits.
        for (last, is_canonical) in
            [("A", true), ("E", true), ("8", true), ("B", false), ("_", false)]
        {
            assert_eq!(is_envelope(&format!("{without}{last}")), is_canonical, "{last}");
        }
        // 156 bytes are 208 characters, without unused bits.
        let two = zeros(28 + 128);
        assert!(is_envelope(&format!("{}_", &two[..two.len() - 1])));
        assert!(is_envelope(&format!("{}-", &two[..two.len() - 1])));
        // 220 bytes are 294 characters, of which the last has four unused bits.
        let three = zeros(28 + 192);
        let three = &three[..three.len() - 1];
        assert!(is_envelope(&format!("{three}Q")) && !is_envelope(&format!("{three}E")));
    }
}
