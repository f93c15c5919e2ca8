//! What peers are called in a line for people, and what no such line tells: where they are. Pure.

use std::{fmt::Display, sync::Arc};

use libp2p::PeerId;
use punchline_bridge::{
    error::{DialFailure, OpenError, TriedWay},
    event::Awaited,
};

use super::{Failure, failure::listed};
use crate::{names::Names, plain::one_line};

/// The names that hold, for whoever writes lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Called(Arc<Names>);

impl Called {
    pub(super) fn new(names: Arc<Names>) -> Self {
        Self(names)
    }

    /// Whether a person gave the peer a name.
    pub(super) fn is_named(&self, peer: &PeerId) -> bool {
        self.name(peer).is_some()
    }

    pub(super) fn name(&self, peer: &PeerId) -> Option<&str> {
        self.0.of(*peer).map(|name| name.as_str())
    }

    /// Its name, or the ends of its id.
    pub(super) fn peer(&self, peer: &PeerId) -> String {
        self.name(peer).map_or_else(|| short(peer), str::to_owned)
    }

    /// A peer that is a relay.
    pub(super) fn relay(&self, relay: &PeerId) -> String {
        format!("relay {}", self.peer(relay))
    }

    /// Words that a peer or a relay may have chosen: on one line, and not longer than a reason ever is.
    pub(super) fn foreign(&self, words: &(impl Display + ?Sized)) -> String {
        let line = self.0.in_text(&one_line(&words.to_string()));
        match line.char_indices().nth(FOREIGN_MAX) {
            Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
            None => line,
        }
    }

    /// Why a program had no stream, without the peer's addresses.
    pub(super) fn failure(&self, failure: &Failure) -> String {
        match failure {
            Failure::Open(error) => self.open_error(error),
            Failure::Late { deadline, awaits } => {
                let awaits: Vec<String> = awaits.iter().map(|awaited| self.awaited(awaited)).collect();
                format!(
                    "connection timeout: no stream within {} s: {}",
                    deadline.as_secs(),
                    listed(&awaits)
                )
            }
            Failure::Other(words) => self.foreign(words),
        }
    }

    /// What is waited for, likewise.
    pub(super) fn awaited(&self, awaited: &Awaited) -> String {
        match awaited {
            Awaited::NextAttempt { in_ms, cause: Some(error) } => {
                let next = Awaited::NextAttempt { in_ms: *in_ms, cause: None };
                format!("{next} (the last time: {})", self.open_error(error))
            }
            awaited => self.foreign(awaited),
        }
    }

    /// As [`Called::failure`].
    pub(super) fn open_error(&self, error: &OpenError) -> String {
        self.foreign(&without_addresses(error))
    }
}

/// Each way and why it failed: who cannot be reached stands beside it, and where that is, in the events alone.
fn without_addresses(error: &OpenError) -> String {
    let (begins, causes) = match error {
        OpenError::NoRouteToDestination { tried, .. } => (String::new(), tried),
        OpenError::Deadline { deadline, stage, tried, .. } if !tried.is_empty() => {
            let (seconds, tried) = (deadline.as_secs_f32(), tried);
            (format!("connection timeout: no stream within {seconds} s ({stage}): "), tried)
        }
        error => return error.to_string(),
    };
    let one = |DialFailure { way, reason }: &DialFailure| match way {
        TriedWay::Direct(addresses) => {
            let all = match addresses.len() {
                1 => String::new(),
                count => format!(", at {count} addresses"),
            };
            format!("directly{all}: {}", hidden(&reason.to_string()))
        }
        TriedWay::Relay(relay) => format!("through relay {}: {reason}", relay.peer()),
        TriedWay::Named | TriedWay::Relays | TriedWay::RelayName(_) | TriedWay::Lookup(_) => {
            format!("{way}: {reason}")
        }
    };
    begins + &causes.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// A text in which addresses are left out.
fn hidden(text: &str) -> String {
    let is_address = |word: &str| ["/ip4/", "/ip6/", "/dns"].iter().any(|start| word.starts_with(start));
    let word = |word| if is_address(word) { "…" } else { word };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// What failed, and mends itself.
pub(super) fn tried_again(cause: &str) -> String {
    let end = if cause.ends_with(['?', '.', '!']) { "" } else { "." };
    format!("{cause}{end} It is tried again by itself")
}

/// A peer's id as people compare it: its ends.
fn short(peer: &PeerId) -> String {
    let id = peer.to_string();
    let end = id.len().saturating_sub(SHORT.1);
    match (id.get(..SHORT.0), id.get(end..)) {
        (Some(start), Some(end)) => format!("{start}…{end}"),
        _ => id,
    }
}

/// Letters of an id at its start, which is the same in all, and at its end, which tells a million peers apart.
const SHORT: (usize, usize) = (4, 6);

/// Reasons of ours have 300 letters; with eight ways to a peer, a thousand.
const FOREIGN_MAX: usize = 1000;
