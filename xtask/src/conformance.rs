//! `cargo xtask conformance`: which test shows which rule of the OCI runtime specification.
//!
//! ```text
//!   tests/oci-rules.txt          every MUST, in our words ──┐
//!                                                           ├──► tests/oci-conformance.md
//!   /// Shows: config/mounts-1   above a test ──────────────┘
//!   # Shows: config/mounts-1     above a check of the guest's
//! ```
//!
//! `cargo xtask tidy` wants the list to be current, no rule named that there is not, and every rule shown or
//! its gap explained.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::run::checkout;
use crate::tidy::files;

/// The rules.
const RULES: &str = "tests/oci-rules.txt";
/// The list.
const LIST: &str = "tests/oci-conformance.md";
/// What marks a test.
const MARK: &str = "Shows: ";

/// A part of the specification.
#[derive(Debug, Default)]
struct Section {
    title: String,
    rules: Vec<Rule>,
}

/// One MUST.
#[derive(Debug)]
struct Rule {
    id: String,
    text: String,
    /// Why no test shows it.
    gap: Option<String>,
}

/// The tests of each rule.
type Shown = BTreeMap<String, Vec<String>>;

/// Writes the list.
pub(crate) fn write() -> Result<()> {
    let (list, faults) = list()?;
    fs::write(checkout().join(LIST), list)?;
    ensure!(faults.is_empty(), "{LIST} is written, but:\n  {}", faults.join("\n  "));
    eprintln!("{LIST} is written");
    Ok(())
}

/// Adds what is wrong to `faults`.
pub(crate) fn check(faults: &mut Vec<String>) -> Result<()> {
    let (list, mut found) = list()?;
    if fs::read_to_string(checkout().join(LIST)).unwrap_or_default() != list {
        found.push(format!("{LIST} is not current: cargo xtask conformance"));
    }
    faults.append(&mut found);
    Ok(())
}

/// The list as it should be, and what is wrong with it.
fn list() -> Result<(String, Vec<String>)> {
    let sections = parse(&fs::read_to_string(checkout().join(RULES))?)?;
    let mut shown = Shown::new();
    for path in files(&checkout()).iter().filter(|path| has_tests(path)) {
        let name = path.strip_prefix(checkout()).unwrap_or(path).display().to_string();
        marks(&name, &fs::read_to_string(path)?, &mut shown);
    }
    let faults = compare(&sections, &shown);
    Ok((render(&sections, &shown), faults))
}

/// Whether a file may have tests in it.
fn has_tests(path: &Path) -> bool {
    let is = |name: &str| path.extension().is_some_and(|it| it == name);
    is("rs") && !path.ends_with("xtask/src/conformance.rs")
        || is("sh") && path.starts_with(checkout().join("xtask"))
}

/// Reads the rules.
fn parse(text: &str) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = || format!("{RULES}:{}", number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("== ") {
            sections.push(Section { title: title.to_owned(), rules: Vec::new() });
            continue;
        }
        let section = sections.last_mut().with_context(|| format!("{}: no section", place()))?;
        let Some(more) = line.strip_prefix("    ") else {
            let (id, text) = line.split_once("  ").with_context(place)?;
            let (id, text) = (id.to_owned(), text.to_owned());
            section.rules.push(Rule { id, text, gap: None });
            continue;
        };
        let rule = section.rules.last_mut().with_context(|| format!("{}: no rule", place()))?;
        match (more.strip_prefix("gap: "), &mut rule.gap) {
            (Some(gap), None) => rule.gap = Some(gap.to_owned()),
            (Some(_), Some(_)) => bail!("{}: two gaps", place()),
            (None, Some(gap)) => *gap = format!("{gap} {more}"),
            (None, None) => rule.text = format!("{} {more}", rule.text),
        }
    }
    Ok(sections)
}

/// Finds the marks of a file and the tests that they stand above.
fn marks(name: &str, text: &str, shown: &mut Shown) {
    let mut pending: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("# ")).map(str::trim);
        if let Some(ids) = comment.and_then(|comment| comment.strip_prefix(MARK)) {
            pending.extend(ids.split(',').map(str::trim));
            continue;
        }
        if pending.is_empty() {
            continue;
        }
        if let Some(test) = test_of(line) {
            for id in pending.drain(..) {
                shown.entry(id.to_owned()).or_default().push(format!("`{name}` {test}"));
            }
        }
    }
}

/// The name of the test that a line begins.
fn test_of(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("fn ") {
        return rest.split('(').next().map(|name| name.replace('_', " "));
    }
    let check = line.strip_prefix("check \"")?;
    check.split('"').next().map(|name| format!("{name} (in the guest)"))
}

/// What the rules and the tests do not agree on.
fn compare(sections: &[Section], shown: &Shown) -> Vec<String> {
    let mut faults = Vec::new();
    let rules: Vec<&Rule> = sections.iter().flat_map(|section| &section.rules).collect();
    for (id, tests) in shown.iter().filter(|(id, _)| !rules.iter().any(|rule| rule.id == **id)) {
        faults.push(format!("there is no rule {id}, which {} shows", tests.join(", ")));
    }
    for (at, rule) in rules.iter().enumerate() {
        let id = &rule.id;
        if rules.iter().take(at).any(|other| other.id == *id) {
            faults.push(format!("{RULES} has two rules {id}"));
        }
        match (shown.contains_key(id), &rule.gap) {
            (true, Some(_)) => faults.push(format!("{RULES}: {id} has a gap and is shown")),
            (false, None) => faults.push(format!("{RULES}: {id} is not shown and has no gap")),
            _ => {}
        }
    }
    faults
}

fn render(sections: &[Section], shown: &Shown) -> String {
    let rules = || sections.iter().flat_map(|section| &section.rules);
    let count = rules().filter(|rule| shown.contains_key(&rule.id)).count();
    let mut text = format!(
        "# What of the OCI runtime specification is shown by which test\n\n\
         Every MUST of runtime-spec 1.3 for a runtime on Linux, in our own words: {count} of {} rules are shown by \
         a test, the others say why not. Written by `cargo xtask conformance` from `{RULES}` and from the lines \
         `{MARK}` above tests; checked by `cargo xtask tidy`.\n",
        rules().count(),
    );
    for section in sections {
        // Writing to a text does not fail.
        let _ = write!(text, "\n## {}\n\n| rule | | shown by |\n|---|---|---|\n", section.title);
        for rule in &section.rules {
            let by = match (shown.get(&rule.id), &rule.gap) {
                (Some(tests), _) => tests.join("<br>"),
                (None, Some(gap)) => format!("nothing: {gap}"),
                (None, None) => "nothing yet".to_owned(),
            };
            let _ = writeln!(text, "| {} | {} | {by} |", rule.id, rule.text);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_tests_meet() {
        let rules = "== a.md, One\na/one-1  First,\n    and on.\na/one-2  Second.\n    gap: because\n    of it.\na/one-3  Third.\n";
        let sections = parse(rules).unwrap();
        let mut shown = Shown::new();
        let test =
            "/// It does.\n/// Shows: a/one-1, a/two-1\n#[test]\nfn it_does() {}\nfn other() {}\n";
        marks("t.rs", test, &mut shown);
        marks("s.sh", "# Shows: a/one-2\ncheck \"in there\" 1 1\n", &mut shown);
        assert_eq!(shown["a/one-1"], ["`t.rs` it does"]);
        assert_eq!(shown["a/one-2"], ["`s.sh` in there (in the guest)"]);
        let faults = compare(&sections, &shown);
        assert_eq!(faults.len(), 3, "{faults:?}");
        let text = render(&sections, &shown);
        assert!(text.contains("| a/one-1 | First, and on. | `t.rs` it does |"), "{text}");
        assert!(text.contains("| a/one-3 | Third. | nothing yet |"), "{text}");
    }
}
