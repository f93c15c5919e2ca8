//! Documents that are written from the program, so that they cannot say anything else.

use std::path::Path;

/// Asserts that `document` is as the program says. With PUNCHLINE_WRITE_REFERENCE set it is written first. `test`: a word of
/// the name of the test that does so.
pub(crate) fn assert_written(document: impl AsRef<Path>, wanted: &str, test: &str) {
    let document = document.as_ref();
    if std::env::var_os("PUNCHLINE_WRITE_REFERENCE").is_some() {
        std::fs::write(document, wanted).expect("the documents can be written to");
    }
    let written = std::fs::read_to_string(document).unwrap_or_default();
    let document = document.display();
    assert!(
        written == wanted,
        "{document} is stale; write it again: PUNCHLINE_WRITE_REFERENCE=1 cargo test -p punchline {test}"
    );
}
