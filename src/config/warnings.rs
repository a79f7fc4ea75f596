//! Settings that have no effect.
//!
//! Owns the warnings about them, which the log shows at the start. Must not read the environment, nor
//! decide whether the server starts. The invariant: a warning is one line, whatever the names of the
//! variables contain.

use std::ffi::OsString;

use super::Config;
use super::flags::FLAGS;

impl Config {
    /// One line for each setting that has no effect. `variables`: the names in the environment.
    pub fn warnings(&self, variables: &mut dyn Iterator<Item = OsString>) -> Vec<String> {
        let mut warnings = Vec::new();
        for name in variables {
            let name = name.to_string_lossy();
            // The variable that plants a fault, for tests of debug builds.
            let is_for_tests = cfg!(debug_assertions) && name == "CHAT_TEST_FAULT";
            if !name.starts_with("CHAT_") || is_for_tests {
                continue;
            }
            let (mut nearest, mut least) = (String::new(), usize::MAX);
            for variable in FLAGS.iter().map(|flag| flag.variable()) {
                let distance = distance(&variable, &name);
                if distance < least {
                    (nearest, least) = (variable, distance);
                }
            }
            if least > 0 {
                warnings.push(format!("the variable {name:?} is unknown; is {nearest} meant?"));
            }
        }
        for (flag, file) in [("--tls-cert", &self.tls_cert), ("--tls-key", &self.tls_key)] {
            if file.is_some() && !self.has_tls() {
                warnings.push(format!("{flag} has no effect without a tls: address"));
            }
        }
        #[cfg(feature = "cluster")]
        if self.cluster_secret.is_some() && self.cluster.is_none() {
            warnings.push("--cluster-secret has no effect without --cluster".to_owned());
        }
        warnings
    }
}

/// How many bytes must be inserted, removed or replaced to turn one text into the other
/// (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, byte) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (place, other) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(byte != other);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_changes() {
        let cases = [("", "", 0), ("a", "", 1), ("", "abc", 3), ("room", "rom", 1)];
        for (one, other, expected) in cases.into_iter().chain([("kitten", "sitting", 3)]) {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }

    // contract §12.31 §12.32
    #[test]
    fn unknown_variables_and_an_unused_certificate_are_warned_of() {
        let config = Config { tls_cert: Some("/c".into()), ..Config::default() };
        let names =
            ["CHAT_ROM_TTL", "CHAT_ROOM_TTL", "CHATTER", "PORT", "CHAT_", "CHAT_X\n", "chat_x"];
        let warnings = config.warnings(&mut names.into_iter().map(OsString::from));
        let expected = [
            "the variable \"CHAT_ROM_TTL\" is unknown; is CHAT_ROOM_TTL meant?",
            "the variable \"CHAT_\" is unknown; is CHAT_LOG meant?",
            "the variable \"CHAT_X\\n\" is unknown; is CHAT_LOG meant?",
            "--tls-cert has no effect without a tls: address",
        ];
        assert_eq!(warnings, expected);
        assert_eq!(Config::default().warnings(&mut std::iter::empty()), [""; 0]);
    }
}
