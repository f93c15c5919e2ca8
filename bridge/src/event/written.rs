//! How facts of an event are written.

use std::{fmt::Display, time::SystemTime};

use serde::Serializer;

use crate::error::{OpenError, list};

pub(super) fn rfc3339<S: Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time.and_then(|time| jiff::Timestamp::try_from(time).ok()) {
        Some(time) => serializer.collect_str(&format_args!("{time:.6}")),
        None => serializer.serialize_none(),
    }
}

/// Who cannot be reached stands beside it.
pub(super) fn ways<S: Serializer>(error: &OpenError, serializer: S) -> Result<S::Ok, S::Error> {
    match error {
        OpenError::NoRouteToDestination { tried, .. } => serializer.collect_str(&list(tried)),
        error => serializer.collect_str(error),
    }
}

pub(super) fn text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(super) fn text_of_some<S: Serializer>(
    value: &Option<impl Display>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
