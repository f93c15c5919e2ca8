//! What lies behind an error of libp2p.

use std::{error::Error, io};

/// An error that stays visible. libp2p joins transports by an `Either`, which passes over the error in it when
/// it is asked for its source; so what matters is put into this, and is its source.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Kept<E: Error + 'static>(#[source] pub(crate) E);

/// An error and what it wraps, outermost first.
pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| inner(*error))
}

/// The first error of this type in a chain of causes.
pub(crate) fn find_cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// What an error wraps. An I/O error names the cause of what it wraps instead, so it is asked first.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// The innermost message of a chain of errors: the outer ones say "failed" again and again. Some are words of the other
/// end, which may be anybody: what comes of them is one line of bounded length, which steers no terminal.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    plain(&chain(error).last().unwrap_or(error).to_string())
}

/// Letters of a cause that are kept; ours have fewer.
const CAUSE_MAX: usize = 400;

fn plain(text: &str) -> String {
    let steers = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let letters = text.chars().map(|letter| if steers(letter) { ' ' } else { letter });
    let mut plain: String = letters.clone().take(CAUSE_MAX).collect();
    if letters.count() > CAUSE_MAX {
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_other_end_are_one_plain_line_of_bounded_length() {
        let said = io::Error::other("closed: \u{1b}[2Jx\nWATCHDOG=trigger \u{202e}");
        assert_eq!(root_cause(&said), "closed:  [2Jx WATCHDOG=trigger  ");
        let long = io::Error::other("x".repeat(10_000));
        assert_eq!(root_cause(&long).chars().count(), CAUSE_MAX + 1);
    }
}
