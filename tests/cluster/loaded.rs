//! What the build script makes of the functions' source before a server embeds it.

use disposable_chat::cluster::library;

#[path = "../../src/build/lua.rs"]
mod lua;

#[test]
fn comments_and_indentation_go_and_strings_stay() {
    for (source, expected) in [
        ("#!lua name=x\n--[[ a\n b ]] c\n]]\nlocal a", "#!lua name=x\n\n\n\nlocal a\n"),
        ("  f('--', \"--\") -- why\n-- a\n\tend", "f('--', \"--\")\n\nend\n"),
        ("f('\\'--', a[b[1]]) --[[ why ]]", "f('\\'--', a[b[1]])\n"),
        ("-- é --\nf('é')", "\nf('é')\n"),
    ] {
        assert_eq!(lua::strip(source).as_deref(), Ok(expected));
    }
    for unknown in ["f([[a]])", "f('a", "x = [==[a"] {
        assert_eq!(lua::strip(unknown), Err(format!("line 1: {unknown}")));
    }
}

#[test]
fn servers_load_each_line_of_the_source_in_its_place() {
    let (source, loaded) = (include_str!("../../src/cluster/functions.lua"), library::source());
    assert_eq!(source.lines().count(), loaded.lines().count());
    for (line, loaded) in source.lines().zip(loaded.lines()) {
        let rest = line.trim_start().strip_prefix(loaded).unwrap_or_else(|| panic!("{line}"));
        let is_comment = rest.trim_start().starts_with("--") || loaded.is_empty();
        assert!(rest.is_empty() || is_comment, "{line}");
    }
    assert!(!loaded.contains("--"), "no string has a comment's beginning");
}
