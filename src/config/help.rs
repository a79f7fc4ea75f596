//! The text of `--help`.
//!
//! Owns the layout. Must not know any flag by name: the rows come from [`FLAGS`], the headings from
//! [`FLAG_GROUPS`]. The invariant: no line is wider than [`COLUMNS`].

use super::flags::{FLAG_GROUPS, FLAGS, Flag};

/// Width of the text, in ASCII characters.
pub(super) const COLUMNS: usize = 100;

/// One row for each flag: the flag on the left, its help text, default and variable on the right.
pub(super) fn help() -> String {
    let mut text = String::from(
        "Disposable Chat: anonymous, temporary chat rooms over REST and WebSockets\n\n\
         Usage: disposable-chat [check] [FLAG VALUE]...\n\n\
         check prints the resulting settings and the limits of this machine, then exits with code 0,\n\
         or with code 2 if a flag or variable is invalid.\n",
    );
    let label = |flag: &Flag| format!("  {} {}", flag.option(), flag.kind.placeholder());
    let width = FLAGS.iter().map(|flag| label(flag).len()).max().unwrap_or(0) + 1;
    let row = |text: &mut String, label: &str, help: &str| {
        let mut line = format!("{label:width$}");
        for word in help.split(' ') {
            if line.len() + 1 + word.len() > COLUMNS {
                text.extend([&line, "\n"]);
                line = " ".repeat(width);
            }
            line.extend([" ", word]);
        }
        text.extend([&line, "\n"]);
    };
    for flag in FLAGS {
        if let Some(group) = FLAG_GROUPS.iter().find(|group| group.first == flag.name) {
            text.extend(["\n", group.title, ", for example:\n"]);
            for example in group.examples {
                text.extend(["  disposable-chat ", example, "\n"]);
            }
            text.push('\n');
        }
        row(&mut text, &label(flag), flag.help);
        let notes = format!("[default: {}] [variable: {}]", flag.default, flag.variable());
        row(&mut text, "", &notes);
    }
    text.push_str("\nThe program\n\n");
    row(&mut text, "  -h, --help", "Print this text");
    row(&mut text, "  -V, --version", "Print name and version");
    text.push_str(
        "\n\
         TIME is 90, 90s, 2m, 24h, 7d, 500ms or 0.5s. SIZE is 65536, 64K, 64M or 2G.\n\
         A flag overrides its variable; an empty variable counts as unset. A variable for a\n\
         repeatable flag holds a list with commas. Flags replace that list, they do not extend it.\n",
    );
    text
}
