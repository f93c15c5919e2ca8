//! Circuit relay v2, as relays and their clients speak it.

pub(crate) mod wire;
