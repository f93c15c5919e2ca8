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

/// The innermost message of a chain of errors: the outer ones say "failed" again and again.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}
