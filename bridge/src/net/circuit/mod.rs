//! Circuit relay v2, as relays and their clients speak it; and our client.
//!
//! The client is a `transport`, which makes and takes connections, and a [`Behaviour`], which talks with the
//! relays: `handler` on each connection, by the requests and answers in `exchange`, which `answer` reads.
//! It decides nothing: when to reserve, where and how long that holds, is up to the engine.

mod answer;
mod behaviour;
mod exchange;
mod handler;
mod transport;
pub(crate) mod wire;

use std::time::Duration;

pub(crate) use self::behaviour::{Behaviour, Event, Limits, new};

/// For a relay to answer a request, the substream included. 10 s: to make a circuit it asks the peer, which
/// takes four round trips on cold paths, and packets get lost.
const HOP_DEADLINE: Duration = Duration::from_secs(10);

/// For a relay to say which circuit it brings, and to hear our answer: two round trips.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Circuits that one relay may be bringing at once. A rush of hundreds comes in a second; one more than this
/// is hung up on, and its dialler tries again.
const OFFERS_MAX: usize = 64;

/// Circuits that were brought and that the swarm has not taken yet. One more is hung up on.
const BROUGHT_MAX: usize = 64;

/// Dials on their way to the behaviour; one more waits.
const DIALS_MAX: usize = 64;

/// Requests to relays that are not answered. More than there may be opens at once, so that only a mistake of
/// ours meets it.
const ASKED_MAX: usize = 2048;
