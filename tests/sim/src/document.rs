//! The document that shows the figures: what it says in words is written by hand, the tables and the chart by the
//! program.

use std::path::Path;
use std::{fs, io};

use crate::{chart, report::Part};

/// The document, in its directory.
pub const DOCUMENT: &str = "discovery-scale.md";
/// The chart, beside it.
pub const CHART: &str = "discovery-scale.svg";

/// Writes the tables into the document of this directory, and the chart beside it.
///
/// # Errors
///
/// If the document cannot be read, lacks the place of a table, or a file cannot be written.
pub fn write(directory: &Path) -> io::Result<()> {
    let path = directory.join(DOCUMENT);
    let mut text = fs::read_to_string(&path)?;
    for part in Part::ALL {
        text = with_tables(&text, part).ok_or_else(|| no_place(part))?;
    }
    fs::write(path, text)?;
    fs::write(directory.join(CHART), chart::svg())
}

/// The document with the tables of this part between their marks, if it has such marks.
fn with_tables(document: &str, part: Part) -> Option<String> {
    let begin = format!("<!-- punchline-sim {} -->\n", part.name());
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n{}\n{END}{after}", part.text()))
}

fn no_place(part: Part) -> io::Error {
    io::Error::other(format!("{DOCUMENT} has no marks for {}", part.name()))
}

const END: &str = "<!-- end -->";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_document_and_the_chart_show_what_the_program_says() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../design");
        let document = fs::read_to_string(directory.join(DOCUMENT)).unwrap();
        let again = "write it again: cargo run -p punchline-sim -- write design";
        for part in Part::ALL {
            assert!(
                with_tables(&document, part).unwrap() == document,
                "{} is stale; {again}",
                part.name()
            );
        }
        let chart = fs::read_to_string(directory.join(CHART)).unwrap();
        assert!(chart == chart::svg(), "the chart is stale; {again}");
    }
}
