//! How much of what was written is kept: the room there is, and when it shrinks.

use std::time::Instant;

use super::{
    super::{config::Config, holding::Look},
    Sender,
};

/// What may be written while no leg is left: a program notices soon that nothing moves, and a stream that
/// waits for hours holds little.
const PARKED_BYTES_MAX: u64 = 64 << 10;

/// What the fastest path carries, 10 Gbit/s: longer round trips are worth so much more in the buffer.
const BYTES_PER_US_MAX: u64 = 1250;

impl Sender {
    /// How much may be written.
    pub(super) fn room(&self, config: &Config) -> u64 {
        let parked = self.parked_end.map_or(u64::MAX, |end| end.saturating_sub(self.written()));
        self.capacity.min(self.worth(config)).saturating_sub(self.retained()).min(parked)
    }

    /// How much the path is worth to retain: more would only wait, in one buffer more.
    fn worth(&self, config: &Config) -> u64 {
        let distance = self.round_trip.shortest.map_or(u64::MAX, |shortest| shortest.as_micros() as u64);
        let near = config.buffer_near.max(config.window_initial).max(1);
        near.saturating_add(distance.saturating_mul(BYTES_PER_US_MAX))
    }

    /// Doubles the capacity if the path, the peer's window, the settings and the budget allow it.
    pub(super) fn grow(&mut self, config: &Config) -> bool {
        if self.denied_at == Some(self.acked) {
            return false;
        }
        let target = self.capacity.saturating_mul(2).min(config.window_max);
        let far = self.capacity < self.worth(config);
        let useful =
            far && self.parked_end.is_none() && self.limit.saturating_sub(self.acked) > self.capacity;
        if !useful || target <= self.capacity {
            return false;
        }
        let grown = self.holding.grow(target - self.capacity);
        if grown {
            self.capacity = target;
        } else {
            self.denied_at = Some(self.acked);
        }
        grown
    }

    /// The peer asks to keep to `limit`, if no more was sent yet. It is told what we keep to.
    pub(in super::super) fn lower(&mut self, limit: u64) {
        self.limit = self.limit.min(limit.max(self.sent));
        self.lowered = Some(self.limit);
    }

    /// The limit that we keep to, if the peer waits for it.
    pub(in super::super) fn next_lowered(&mut self) -> Option<u64> {
        self.lowered.take()
    }

    /// No leg is left. What was not acknowledged is kept, and little more is taken until there is one.
    pub(in super::super) fn park(&mut self, config: &Config) {
        self.parked_end.get_or_insert(self.written() + PARKED_BYTES_MAX);
        self.capacity = config.window_initial.max(1);
        self.fall_back(config);
    }

    /// There is a leg again.
    pub(in super::super) fn unpark(&mut self) {
        self.parked_end = None;
    }

    /// Looks after what is held of the budget. False if that is too much for too long.
    pub(in super::super) fn look(&mut self, now: Instant, config: &Config) -> bool {
        match self.holding.look(self.acked, now) {
            Look::Keep => return true,
            Look::Hoards => return false,
            Look::FallTo(more) => {
                self.capacity = self.capacity.min(config.window_initial.max(1).saturating_add(more));
            }
        }
        self.fall_back(config);
        true
    }

    /// When [`Sender::look`] is to be called.
    pub(in super::super) fn look_at(&self) -> Option<Instant> {
        self.holding.look_at()
    }

    /// To be called after everything that may have made the buffer grow.
    pub(in super::super) fn arm(&mut self, now: Instant) {
        self.holding.arm(now);
    }

    /// Gives back what a buffer that falls back needs no longer.
    pub(super) fn fall_back(&mut self, config: &Config) {
        let initial = config.window_initial.max(1);
        if self.holding.is_above(self.capacity - initial) {
            self.recycled = Vec::new();
            self.holding.shrink_to(self.capacity() - initial);
        }
    }
}
