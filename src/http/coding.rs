//! Content codings: which the peer would rather have (RFC 9110 §12.5.3).
//!
//! Owns the grammar of `Accept-Encoding`. Must never know what there is to send, or in which
//! codings. The invariant: a member that cannot be read asks for nothing, and whoever asks for
//! nothing is sent no coding, which everyone can read.

use super::grammar::eq_ignore_case;

/// How much something is wanted, in thousandths; 0: not at all (RFC 9110 §12.4.2).
type Weight = u16;

const WEIGHT_MAX: Weight = 1000;

/// Whether gzip is wanted, and no less than content as it is. `fields`: the values of all
/// `Accept-Encoding` lines.
pub(super) fn gzip_is_preferred<'a>(fields: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut gzip, mut identity, mut others) = (None, None, None);
    for member in fields.flat_map(|list| list.split(|&byte| byte == b',')) {
        let mut parts = member.splitn(2, |&byte| byte == b';').map(<[u8]>::trim_ascii);
        let coding = parts.next().unwrap_or_default();
        let said = match coding {
            b"*" => &mut others,
            // RFC 9110 §8.4.1.3: both are one coding.
            _ if eq_ignore_case(coding, b"gzip") || eq_ignore_case(coding, b"x-gzip") => &mut gzip,
            _ if eq_ignore_case(coding, b"identity") => &mut identity,
            _ => continue,
        };
        // Of several the first counts.
        said.get_or_insert(parts.next().map_or(WEIGHT_MAX, weight));
    }
    // Content as it is needs no mention to be acceptable, but is then what is wanted least.
    let weight = |said: Option<Weight>| said.or(others).unwrap_or(0);
    weight(gzip) > 0 && weight(gzip) >= weight(identity)
}

/// RFC 9110 §12.4.2: `q=` and up to three decimals.
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
        _ => 0, // More than everything.
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
    fn gzip_is_for_whoever_asks_for_it() {
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
    fn all_others_are_sent_what_everyone_can_read() {
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
    fn a_weight_that_cannot_be_read_is_none() {
        for weight in [
            "", "q", "q=", "1", "q =1", "q= 1", "q=2", "q=1.1", "q=1.001", "q=0.1234", "q=.5",
            "q=-1", "q=0,5", "q=0.5x", "q=0.5;x", "level=9", "q=NaN", "q=00",
        ] {
            check(&[&format!("gzip;{weight}")], false);
        }
    }
}
