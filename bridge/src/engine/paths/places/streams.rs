//! Places for the streams of peers, from the request to the last word.

use std::collections::BTreeMap;

use super::{Full, Origin, Places, Standing};
use crate::{engine::input::InboundId, status::LimitStatus, stream::StreamKey};

type Taken = (Origin, Standing);

/// Who has one, asked for or live.
#[derive(Debug)]
pub(crate) struct StreamPlaces {
    places: Places,
    requests: BTreeMap<InboundId, Taken>,
    streams: BTreeMap<StreamKey, Taken>,
}

impl StreamPlaces {
    pub(crate) fn new(places: Places) -> Self {
        Self { places, requests: BTreeMap::new(), streams: BTreeMap::new() }
    }

    /// Whether there is one more.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn fits(&self, origin: Origin, standing: Standing) -> Result<(), Full> {
        self.places.fits(origin, standing)
    }

    /// How full they are.
    pub(crate) fn status(&self, what: &'static str) -> LimitStatus {
        self.places.status(what)
    }

    pub(crate) fn asked(&mut self, inbound: InboundId, origin: Origin, standing: Standing) {
        self.places.take(origin, standing);
        self.requests.insert(inbound, (origin, standing));
    }

    /// A request became a stream and keeps its place.
    pub(crate) fn accepted(&mut self, inbound: InboundId, key: StreamKey) {
        if let Some(taken) = self.requests.remove(&inbound)
            && let Some((origin, standing)) = self.streams.insert(key, taken)
        {
            self.places.give_back(origin, standing);
        }
    }

    /// Nobody waits for a decision any more.
    pub(crate) fn ended(&mut self, inbound: InboundId) {
        if let Some((origin, standing)) = self.requests.remove(&inbound) {
            self.places.give_back(origin, standing);
        }
    }

    pub(crate) fn closed(&mut self, key: StreamKey) {
        if let Some((origin, standing)) = self.streams.remove(&key) {
            self.places.give_back(origin, standing);
        }
    }

    #[cfg(any(test, debug_assertions))]
    pub(crate) fn is_consistent(&self) -> bool {
        self.places.taken() == self.requests.len() + self.streams.len()
    }
}
