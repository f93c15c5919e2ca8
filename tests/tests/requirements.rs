//! `design/requirements.md` names every promise once, and tests that exist.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// How many promises each of the four systems made.
const PROMISES: [usize; 4] = [40, 50, 45, 30];

struct Row {
    id: String,
    verdict: String,
    today: String,
    /// Where, and what it is called.
    tests: Vec<(String, String)>,
}

impl Row {
    /// Whether no part of it is promised.
    fn is_not_promised(&self) -> bool {
        self.verdict == "X"
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The rows of all tables whose first cell is an id.
fn rows(document: &str) -> Vec<Row> {
    let is_row = |line: &&str| {
        let id = line.strip_prefix("| ").and_then(|rest| rest.split(' ').next());
        id.is_some_and(|id| id.split_once('-').is_some_and(|(system, _)| system.parse::<u8>().is_ok()))
    };
    document.lines().filter(is_row).map(row).collect()
}

fn row(line: &str) -> Row {
    // A bar within a cell is written with a backslash.
    let line = line.replace("\\|", "\u{1}");
    let cells: Vec<_> =
        line.trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect();
    let [id, _, verdict, today, tests] = &cells[..] else { panic!("a row has five cells: {line}") };
    let mut row =
        Row { id: id.clone(), verdict: verdict.clone(), today: today.clone(), tests: Vec::new() };
    for entry in tests.split(", ").filter(|entry| !entry.is_empty()) {
        let test = entry.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')?.split_once(": "));
        match test {
            Some((place, name)) => row.tests.push((place.to_owned(), name.to_owned())),
            None => panic!("{id}: {entry} is not `where: name`"),
        }
    }
    row
}

/// Every test in the source: where it is, and what it is called. Names that are made when the tests run are as they are
/// written: `a_claim_over_{transport}`.
fn tests() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for path in sources(&root()) {
        let text = fs::read_to_string(&path).unwrap();
        let place = path.strip_prefix(root()).unwrap().with_extension("");
        let places: Vec<_> = place.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        let functions = functions(&text);
        // What runs trials of its own names them in strings.
        let named = if places.starts_with(&["tests".into(), "tests".into()]) {
            claims(&text)
        } else {
            Vec::new()
        };
        for name in functions.into_iter().chain(named) {
            found.extend(places.iter().map(|place| (place.clone(), name.clone())));
        }
    }
    found
}

/// Every source file of the workspace.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The functions under `#[test]` or `#[tokio::test]`, whatever other attributes they have.
fn functions(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        let rest =
            ["pub ", "async "].iter().fold(line, |rest, word| rest.strip_prefix(word).unwrap_or(rest));
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(rest) = rest.strip_prefix("fn ").filter(|_| is_test) {
            found.push(rest.split(['(', '<']).next().unwrap().to_owned());
            is_test = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
        }
    }
    found
}

/// The strings that read as a claim: words with underscores between them.
fn claims(text: &str) -> Vec<String> {
    let allowed =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_{}".contains(letter);
    let strings = text.split('"');
    let claims = strings.filter(|text| text.matches('_').count() >= 3 && text.chars().all(allowed));
    claims.map(str::to_owned).collect()
}

fn document() -> String {
    fs::read_to_string(root().join("design/requirements.md")).unwrap()
}

#[test]
fn every_promise_has_a_row_in_its_place_with_a_verdict_and_a_word_on_today() {
    let rows = rows(&document());
    let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
    let of =
        |(system, count): (usize, usize)| (1..=count).map(move |number| format!("{system}-{number:02}"));
    let wanted: Vec<_> = PROMISES.into_iter().enumerate().flat_map(of).collect();
    assert_eq!(ids, wanted);
    for row in &rows {
        let verdicts: Vec<_> = row.verdict.split('/').collect();
        assert!(verdicts.iter().all(|verdict| ["F", "A", "N", "X"].contains(verdict)), "{}", row.id);
        assert!(!row.today.is_empty(), "{}", row.id);
    }
}

#[test]
fn every_promise_is_held_by_tests_that_exist() {
    let (rows, tests) = (rows(&document()), tests());
    let mut wrong = Vec::new();
    for row in &rows {
        let missing = row.tests.iter().filter(|&test| !tests.contains(test));
        wrong.extend(
            missing.map(|(place, name)| format!("{}: there is no test {name} in {place}", row.id)),
        );
        if row.tests.is_empty() && !row.is_not_promised() {
            wrong.push(format!("{}: has no test", row.id));
        }
    }
    let not_promised = rows.iter().filter(|row| row.is_not_promised()).count();
    println!(
        "of {} promises {} are held, {not_promised} are none",
        rows.len(),
        rows.len() - not_promised
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_test_is_known_by_its_attribute_or_as_a_claim_of_a_trial() {
    let text = "#[tokio::test(start_paused = true)]\n// Why.\n#[ignore]\nasync fn a_claim_that_holds() {}\nfn a_helper_of_it() {}\n";
    assert_eq!(functions(text), ["a_claim_that_holds"]);
    let text = "lab_trial(\"a_{kind}_claim_of_a_trial\", body); println!(\"no claim at_all\"); name(\"short_one\")";
    assert_eq!(claims(text), ["a_{kind}_claim_of_a_trial"]);
}
