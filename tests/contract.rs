//! The wire contract has a test for each of its clauses.
//!
//! Reads `src/guide/contract.md`, the source and the tests as text. A line `// contract §1.14 §2.3`
//! above a test says that the test shows these clauses; anywhere else `contract §1.14` in a comment
//! is a pointer for the reader. Must not know what a clause says: whether a test shows it is for
//! reviewers to judge. The invariant: every clause is shown by at least one test, and every number
//! that is cited names a clause.
//!
//! `CONTRACT_MAP=1 cargo test --test contract -- --nocapture` prints which tests show which clause.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

const CONTRACT: &str = "src/guide/contract.md";

/// Folders whose files may cite clauses.
const FOLDERS: [&str; 3] = ["src", "tests", "benches"];

/// This file, in which faulty citations are samples.
const SAMPLES: &str = "tests/contract.rs";

/// The number of a clause: section, and place in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Clause(u32, u32);

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "§{}.{}", self.0, self.1)
    }
}

impl Clause {
    /// `1.14`, without leading zeros.
    fn parse(text: &str) -> Option<Clause> {
        let (section, place) = text.split_once('.')?;
        let clause = Clause(section.parse().ok()?, place.parse().ok()?);
        (clause.to_string() == format!("§{text}")).then_some(clause)
    }
}

/// A place in a file, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    file: String,
    line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The contract: each clause with its words, and what is wrong with the numbers.
#[derive(Default)]
struct Contract {
    clauses: BTreeMap<Clause, String>,
    faults: Vec<String>,
}

impl Contract {
    fn read(text: &str) -> Contract {
        let mut contract = Contract::default();
        let (mut section, mut last) = (0, Clause(0, 0));
        let (mut is_code, mut is_open) = (false, false);
        for (number, line) in text.lines().enumerate() {
            is_code ^= line.starts_with("```");
            if is_code {
                continue;
            }
            let mut fault =
                |what: &str| contract.faults.push(format!("line {}: {what}", number + 1));
            if let Some(heading) = line.strip_prefix("## ") {
                let heading = heading.split(' ').next().and_then(|word| word.parse().ok());
                match heading {
                    Some(heading) if heading > section => section = heading,
                    _ => fault("a section has no number, or one that is not above the last"),
                }
            }
            if !line.contains("**§") && !line.contains("<a id=") {
                is_open &= !line.is_empty();
                if let Some(words) = contract.clauses.get_mut(&last).filter(|_| is_open) {
                    words.extend([" ", line]);
                }
                continue;
            }
            let Some((clause, words)) = clause_in(line) else {
                fault("a clause begins with its anchor and its number, which are the same");
                continue;
            };
            if clause.0 != section {
                fault(&format!("{clause} stands in section {section}"));
            } else if contract.clauses.contains_key(&clause) {
                fault(&format!("{clause} is there twice"));
            } else if clause < last {
                fault(&format!("{clause} stands after {last}"));
            }
            (last, is_open) = (last.max(clause), true);
            contract.clauses.insert(clause, words.to_owned());
        }
        // Links within the page.
        for (number, line) in text.lines().enumerate() {
            for link in line.split("[§").skip(1) {
                let linked = link.split_once("](#").and_then(|(shown, rest)| {
                    let (anchor, _) = rest.split_once(')')?;
                    Clause::parse(shown).filter(|_| shown == anchor)
                });
                if !linked.is_some_and(|clause| contract.clauses.contains_key(&clause)) {
                    let fault = format!("line {}: a link that leads to no clause", number + 1);
                    contract.faults.push(fault);
                }
            }
        }
        contract
    }
}

/// `- <a id="1.14"></a>**§1.14** words`
fn clause_in(line: &str) -> Option<(Clause, &str)> {
    let (anchor, rest) = line.strip_prefix("- <a id=\"")?.split_once("\"></a>**§")?;
    let (number, words) = rest.split_once("** ")?;
    Clause::parse(number).filter(|_| number == anchor).map(|clause| (clause, words))
}

/// What the files cite.
#[derive(Default)]
struct Citations {
    /// A clause, and the tests that show it: file and name, and the place of the citation.
    shown: BTreeMap<Clause, BTreeMap<String, Place>>,
    /// Clauses that other comments refer to.
    mentioned: Vec<(Clause, Place)>,
    faults: Vec<String>,
}

impl Citations {
    fn read(&mut self, file: &str, text: &str) {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (number, line) in lines.iter().enumerate() {
            let place = Place { file: file.to_owned(), line: number + 1 };
            match line.strip_prefix("// contract ") {
                Some(cited) => self.read_citation(cited, &lines[number + 1..], place),
                None => {
                    let cited = line.split("contract §").skip(1).flat_map(numbers_at_the_start);
                    self.mentioned.extend(cited.map(|clause| (clause, place.clone())));
                }
            }
        }
    }

    /// A line that says what the test below it shows.
    fn read_citation(&mut self, cited: &str, below: &[&str], place: Place) {
        let clauses = cited.split(' ').map(|word| word.strip_prefix('§').and_then(Clause::parse));
        let Some(clauses) = clauses.collect::<Option<Vec<_>>>() else {
            return self.faults.push(format!("{place}: not of the form `// contract §1.14 §2.3`"));
        };
        let name = match place.file.rsplit_once('.') {
            Some((_, "rs")) => test_in_rust(below),
            Some((_, "mjs")) => test_in_javascript(below),
            _ => None,
        };
        let Some(name) = name else {
            return self.faults.push(format!("{place}: a citation that stands above no test"));
        };
        for clause in clauses {
            let test = format!("{}: {name}", place.file);
            if self.shown.entry(clause).or_default().insert(test, place.clone()).is_some() {
                self.faults.push(format!("{place}: {clause} is cited twice above one test"));
            }
        }
    }
}

/// `1.14, §2.3 and on` after a paragraph sign: the numbers that stand together.
fn numbers_at_the_start(text: &str) -> Vec<Clause> {
    let mut clauses = Vec::new();
    for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
        let digits = word.strip_prefix('§').filter(|_| !clauses.is_empty()).unwrap_or(word);
        let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
        let is_number = clauses.is_empty() || digits.len() < word.len();
        match Clause::parse(digits[..end].trim_end_matches('.')).filter(|_| is_number) {
            Some(clause) => clauses.push(clause),
            None if matches!(word, "and" | "to") => {}
            None => break,
        }
    }
    clauses
}

/// The name of the test that `lines` begin with, comments and attributes aside.
fn test_in_rust(lines: &[&str]) -> Option<String> {
    let mut is_test = false;
    for line in lines {
        if *line == "#[test]" {
            is_test = true;
        } else if !line.starts_with("//") && !line.starts_with("#[") {
            let name = line.strip_prefix("fn ")?.split_once('(')?.0;
            return is_test.then(|| name.to_owned());
        }
    }
    None
}

/// The same for a file of Node's tests; `scenario` is the browser tests' own wrapper of `test`.
fn test_in_javascript(lines: &[&str]) -> Option<String> {
    let line = lines.iter().find(|line| !line.starts_with("//"))?;
    let call = line.strip_prefix("test(").or_else(|| line.strip_prefix("scenario("))?;
    call.split('"').nth(1).map(str::to_owned)
}

/// All that is wrong.
fn faults(contract: &Contract, citations: &Citations) -> Vec<String> {
    let page = contract.faults.iter().map(|fault| format!("{CONTRACT}, {fault}"));
    let mut faults: Vec<String> = page.chain(citations.faults.iter().cloned()).collect();
    let shown = citations
        .shown
        .iter()
        .flat_map(|(clause, tests)| tests.values().map(move |place| (clause, place)));
    let mentioned = citations.mentioned.iter().map(|(clause, place)| (clause, place));
    for (clause, place) in shown.chain(mentioned) {
        if !contract.clauses.contains_key(clause) {
            faults.push(format!("{place}: there is no clause {clause}"));
        }
    }
    for clause in contract.clauses.keys().filter(|clause| !citations.shown.contains_key(clause)) {
        faults.push(format!("{CONTRACT}: no test shows {clause}"));
    }
    faults
}

/// Each clause, the tests that show it, and the comments that refer to it.
fn map(contract: &Contract, citations: &Citations) -> String {
    let mut map = String::new();
    for (clause, words) in &contract.clauses {
        let end = words.char_indices().nth(80);
        let (shown, more) = end.map_or((&**words, ""), |(end, _)| (&words[..end], "…"));
        writeln!(map, "{clause} {shown}{more}").expect("a String takes it");
        for test in citations.shown.get(clause).into_iter().flat_map(BTreeMap::keys) {
            writeln!(map, "    {test}").expect("a String takes it");
        }
        for (_, place) in citations.mentioned.iter().filter(|(cited, _)| cited == clause) {
            writeln!(map, "    cited at {place}").expect("a String takes it");
        }
    }
    let shown: usize = citations.shown.values().map(BTreeMap::len).sum();
    writeln!(map, "{} clauses, {shown} citations by tests", contract.clauses.len())
        .expect("a String takes it");
    map
}

fn read_folder(folder: &Path, citations: &mut Citations) {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("a file").path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path.to_string_lossy().replace('\\', "/");
        if path.is_dir() {
            if !name.ends_with("/node_modules") {
                read_folder(&path, citations);
            }
        } else if name != SAMPLES && [".rs", ".mjs", ".js"].iter().any(|end| name.ends_with(end)) {
            citations.read(&name, &fs::read_to_string(&path).expect("UTF-8"));
        }
    }
}

#[test]
fn every_clause_is_shown_by_a_test_and_every_citation_names_a_clause() {
    let contract = Contract::read(&fs::read_to_string(CONTRACT).expect("the contract"));
    let mut citations = Citations::default();
    FOLDERS.iter().for_each(|folder| read_folder(Path::new(folder), &mut citations));
    if std::env::var_os("CONTRACT_MAP").is_some() {
        println!("{}", map(&contract, &citations));
    }
    assert!(contract.clauses.len() > 100, "the contract was not read");
    let faults = faults(&contract, &citations);
    assert!(faults.is_empty(), "{faults:#?}");
}

// The checks themselves, on faulty samples.

const PAGE: &str = "\
# Title

## 1 First

- <a id=\"1.1\"></a>**§1.1** One, as [§2.2](#2.2) says.

```text
## not a heading
```

- <a id=\"1.2\"></a>**§1.2** Two.

## 2 Second

- <a id=\"2.2\"></a>**§2.2** A gap
is no fault.
";

const TESTS: &str = "
// contract §1.1 §1.2
#[test]
fn a_fact() {}

/// What went wrong.
// contract §2.2
#[cfg(unix)]
#[test]
fn another_fact() {}
";

/// The faults of `page` with the tests in `text`, a file of that name.
fn found(page: &str, file: &str, text: &str) -> Vec<String> {
    let mut citations = Citations::default();
    citations.read(file, text);
    faults(&Contract::read(page), &citations)
}

#[track_caller]
fn check_page(from: &str, to: &str, expected: &str) {
    assert!(PAGE.contains(from), "{from}");
    let found = found(&PAGE.replacen(from, to, 1), "tests/a.rs", TESTS);
    assert!(found.iter().any(|fault| fault.contains(expected)), "{expected}: {found:#?}");
}

#[track_caller]
fn check_test(from: &str, to: &str, expected: &str) {
    assert!(TESTS.contains(from), "{from}");
    let found = found(PAGE, "tests/a.rs", &TESTS.replacen(from, to, 1));
    assert!(found.iter().any(|fault| fault.contains(expected)), "{expected}: {found:#?}");
}

#[test]
fn a_good_page_with_good_tests_has_no_faults() {
    assert_eq!(found(PAGE, "tests/a.rs", TESTS), [""; 0]);
    let mut citations = Citations::default();
    citations.read("tests/a.rs", TESTS);
    let map = map(&Contract::read(PAGE), &citations);
    assert!(map.contains("§2.2 A gap is no fault.\n    tests/a.rs: another_fact\n"), "{map}");
    assert!(map.ends_with("3 clauses, 3 citations by tests\n"), "{map}");
}

#[test]
fn a_clause_without_a_test_is_a_fault() {
    check_test("// contract §2.2", "//", "no test shows §2.2");
    check_test(" §1.2", "", "no test shows §1.2");
}

#[test]
fn a_citation_that_names_no_clause_is_a_fault() {
    check_test("§2.2", "§2.1", "tests/a.rs:7: there is no clause §2.1");
    check_page("- <a id=\"1.2\"></a>**§1.2** Two.", "", "there is no clause §1.2");
    for comment in [
        "/// So it is promised (contract §3.1).",
        "//! Sets a limit (contract §1.1, §3.1).",
        "let a = 1; // See contract §1.1 and §3.1.",
        "/// RFC 9112 §9.6 and contract §3.1: closed.",
    ] {
        let found = found(PAGE, "src/a.rs", &format!("{TESTS}{comment}\n"));
        assert_eq!(found, ["src/a.rs:11: there is no clause §3.1"], "{comment}");
    }
}

#[test]
fn a_citation_that_is_not_well_formed_is_a_fault() {
    for bad in ["2.2", "§2", "§2.02", "§2.2,", "section 2.2", "§2.2 and §1.1", "§ 2.2"] {
        check_test("§2.2", bad, "not of the form");
    }
}

#[test]
fn a_citation_above_something_else_than_a_test_is_a_fault() {
    check_test("#[test]\nfn a_fact", "fn a_fact", "tests/a.rs:2: a citation that stands above no");
    check_test("fn a_fact() {}", "const A: u8 = 1;", "above no test");
    check_test("#[test]\nfn a_fact", "\n#[test]\nfn a_fact", "above no test");
    check_test("// contract §2.2", "// contract §2.2\nmod inner {", "above no test");
    check_test("fn another_fact() {}", "", "above no test");
    check_test("#[test]\nfn a_fact", "// contract §1.1\n#[test]\nfn a_fact", "cited twice");
}

#[test]
fn numbers_that_are_repeated_or_out_of_order_are_a_fault() {
    check_page("1.2\"></a>**§1.2", "1.1\"></a>**§1.1", "§1.1 is there twice");
    check_page("2.2\"></a>**§2.2", "1.3\"></a>**§1.3", "§1.3 stands in section 2");
    check_page("## 2 ", "## 1 ", "a section has no number");
    check_page("## 2 Second", "## Second", "a section has no number");
    let swapped = PAGE.replace("§1.1", "§1.9").replace("\"1.1\"", "\"1.9\"");
    let found = found(&swapped, "tests/a.rs", TESTS);
    assert!(found.iter().any(|fault| fault.contains("§1.2 stands after §1.9")), "{found:#?}");
}

#[test]
fn an_anchor_that_is_not_its_clause_s_number_is_a_fault() {
    check_page("id=\"1.2\"", "id=\"1.3\"", "the same");
    check_page("- <a id=\"1.2\"></a>", "", "the same");
    check_page("](#2.2)", "](#2.3)", "a link that leads to no clause");
    check_page("[§2.2](#2.2)", "[§4.2](#4.2)", "a link that leads to no clause");
}

#[test]
fn a_test_of_the_browser_s_is_named_by_its_first_string() {
    let scenario = "// contract §1.1 §1.2 §2.2\nscenario(\"two talk\", async () => {});\n";
    assert_eq!(found(PAGE, "tests/a.test.mjs", scenario), [""; 0]);
    let page = found(PAGE, "tests/a.test.mjs", &scenario.replace("scenario(", "serve("));
    assert!(page.iter().any(|fault| fault.contains("above no test")), "{page:#?}");
    let script = found(PAGE, "src/web/page/a.js", scenario);
    assert!(script.iter().any(|fault| fault.contains("above no test")), "{script:#?}");
}
