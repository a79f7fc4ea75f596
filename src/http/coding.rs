//! Negotiation: whether the peer prefers gzip (RFC 9110 §12.5.3), and which media types it accepts
//! (§12.5.1).
//!
//! Owns the grammar of `Accept-Encoding` and `Accept`. Must not know which content exists, or in which codings.
//! The invariant: a malformed weight counts as 0, and content is sent uncoded unless the peer
//! prefers gzip. Every peer can read uncoded content.

use super::grammar::{eq_ignore_case, list_members};

/// A weight in thousandths; 0 means "not acceptable" (RFC 9110 §12.4.2).
type Weight = u16;

const WEIGHT_MAX: Weight = 1000;

/// Whether gzip is acceptable and its weight is at least that of uncoded content. `fields` are the
/// values of all `Accept-Encoding` lines.
pub(super) fn gzip_is_preferred<'a>(fields: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut gzip, mut identity, mut others) = (None, None, None);
    for member in fields.flat_map(list_members) {
        let mut parts = member.splitn(2, |&byte| byte == b';').map(<[u8]>::trim_ascii);
        let coding = parts.next().unwrap_or_default();
        let weight_of = match coding {
            b"*" => &mut others,
            // RFC 9110 §8.4.1.3: `x-gzip` is another name for gzip.
            _ if eq_ignore_case(coding, b"gzip") || eq_ignore_case(coding, b"x-gzip") => &mut gzip,
            _ if eq_ignore_case(coding, b"identity") => &mut identity,
            _ => continue,
        };
        // If a coding is repeated, its first member counts.
        weight_of.get_or_insert(parts.next().map_or(WEIGHT_MAX, weight));
    }
    // Uncoded content that is not mentioned is acceptable, but any mentioned coding is preferred.
    let weight = |named: Option<Weight>| named.or(others).unwrap_or(0);
    weight(gzip) > 0 && weight(gzip) >= weight(identity)
}

/// The weights of media types, each by the most specific range that includes it (RFC 9110 §12.5.1).
/// `fields` are the values of all `Accept` lines; without any range, all types are acceptable.
/// Parameters other than the weight are ignored.
pub(super) fn media_weights<'a, const N: usize>(
    fields: impl Iterator<Item = &'a [u8]>,
    types: [&str; N],
) -> [Weight; N] {
    let mut found = [(0, WEIGHT_MAX); N];
    let members = fields.flat_map(list_members).filter(|member| !member.is_empty());
    for (index, member) in members.enumerate() {
        if index == 0 {
            found = [(0, 0); N];
        }
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let range = parts.next().unwrap_or_default();
        let parameter = parts.find(|part| matches!(part, [b'q' | b'Q', b'=', ..]));
        let weight = parameter.map_or(WEIGHT_MAX, weight);
        for (found, whole) in found.iter_mut().zip(types) {
            let kind = whole.find('/').map_or(0, |slash| slash + 1);
            let rank = match range.split_last() {
                _ if eq_ignore_case(range, whole.as_bytes()) => 3,
                Some((b'*', rest)) if eq_ignore_case(rest, &whole.as_bytes()[..kind]) => 2,
                Some((b'*', b"*/")) => 1,
                _ => 0,
            };
            if rank > found.0 {
                *found = (rank, weight);
            }
        }
    }
    found.map(|(_, weight)| weight)
}

/// Parses `q=` with up to three decimals (RFC 9110 §12.4.2). Anything else has weight 0.
fn weight(parameter: &[u8]) -> Weight {
    let (whole, decimals) = match parameter {
        [b'q' | b'Q', b'=', whole @ (b'0' | b'1')] => (whole, &[][..]),
        [b'q' | b'Q', b'=', whole @ (b'0' | b'1'), b'.', decimals @ ..] => (whole, decimals),
        _ => return 0,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let places = decimals.iter().zip([100, 10, 1]);
    let part: Weight = places.map(|(digit, place)| Weight::from(digit - b'0') * place).sum();
    match whole {
        b'0' => part,
        _ if part == 0 => WEIGHT_MAX,
        _ => 0, // Above 1.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expected: bool) {
        let fields = lines.iter().map(|line| line.as_bytes());
        assert_eq!(gzip_is_preferred(fields), expected, "{lines:?}");
    }

    #[test]
    fn gzip_is_preferred_if_its_weight_is_at_least_that_of_identity() {
        for line in [
            "gzip",
            "GZip",
            "x-gzip",
            "gzip, deflate, br, zstd",
            "br;q=1.0,\tgzip ; q=0.8 , *;q=0.1",
            "deflate, gzip;q=1.0, *;q=0.5",
            "*",
            "identity;q=0.5, *;q=0.6",
            "gzip;q=0.001",
            "gzip;Q=1.000",
            "gzip;q=1.",
            ", ,gzip,",
            "gzip, gzip;q=0",
            "gzip;q=0.5, identity;q=0.5",
            "identity;q=0, gzip;q=0.1",
        ] {
            check(&[line], true);
        }
        check(&["br", "gzip"], true);
    }

    #[test]
    fn without_a_preference_for_gzip_content_is_sent_uncoded() {
        check(&[], false);
        for line in [
            "",
            "identity",
            "br, deflate, zstd",
            "gzip;q=0",
            "gzip;q=0.000",
            "gzip;q=0.",
            "x-gzip;q=0, gzip",
            "*;q=0",
            "gzip;q=0, *",
            "identity;q=0",
            "identity, gzip;q=0.9",
            "identity;q=0.501, *;q=0.5",
            "gzip;q=0.5, *",
            "gzipped",
            "zip",
            "gzip q=1",
            "\"gzip\"",
        ] {
            check(&[line], false);
        }
    }

    #[test]
    fn a_media_type_has_the_weight_of_its_most_specific_range() {
        #[track_caller]
        fn check(lines: &[&str], expected: [Weight; 2]) {
            let fields = lines.iter().map(|line| line.as_bytes());
            assert_eq!(media_weights(fields, ["text/event-stream", "a/b"]), expected, "{lines:?}");
        }
        check(&[], [1000, 1000]);
        check(&["", " , "], [1000, 1000]);
        check(&["*/*"], [1000, 1000]);
        check(&["TEXT/Event-Stream"], [1000, 0]);
        check(&["text/*;q=0.5", "a/b ; q=0.25"], [500, 250]);
        check(&["text/event-stream;q=0.1, text/*;q=0.5, */*;q=0.75"], [100, 750]);
        check(&["*/*, text/event-stream;q=0"], [0, 1000]);
        check(&["text/event-stream;charset=utf-8;q=0.3, a/*;level=1"], [300, 1000]);
        check(&["a/b;q=0.2, a/b"], [0, 200]);
        check(&["application/json", "text/plain", "text", "*", "a/"], [0, 0]);
    }

    #[test]
    fn a_malformed_weight_is_zero() {
        for weight in [
            "", "q", "q=", "1", "q =1", "q= 1", "q=2", "q=1.1", "q=1.001", "q=0.1234", "q=.5",
            "q=-1", "q=0,5", "q=0.5x", "q=0.5;x", "level=9", "q=NaN", "q=00",
        ] {
            check(&[&format!("gzip;{weight}")], false);
        }
    }
}
