//! What mostly happens: payload comes or goes, and nothing else is to be done.
//!
//! It does the same as the general verbs, in much less code. After a system call the processor has to
//! fetch code into its cache again, and for a small message that is most of the cost.

use std::time::Instant;

use super::{Machine, Phase, event::LegId};

impl Machine {
    /// Takes all of `bytes` to be sent on `leg` now, as the payload of one DATA frame, if they may go out at
    /// once and nothing is to be said before them. Returns where they start in the stream.
    ///
    /// `None`: nothing was done. Then [`Machine::write`] takes what there is room for.
    ///
    /// `now` is asked only if it is needed, which it mostly is not.
    pub fn send(&mut self, leg: LegId, bytes: &[u8], now: impl Fn() -> Instant) -> Option<u64> {
        let plain = matches!(self.phase, Phase::Open) && self.is_calm();
        let on = self.legs.current.as_mut().filter(|on| plain && on.id == leg && on.is_plain())?;
        let offset = self.sender.send(bytes, &now, &self.config)?;
        on.waiting.get_or_insert_with(now);
        Some(offset)
    }

    /// What [`Machine::read`] says to a reader for whom nothing is there: true if that is `None`.
    pub fn starve(&mut self) -> bool {
        self.outcome.is_none() && self.receiver.starve()
    }

    /// Counts payload as received and read, if it is what a reader gets next and changes nothing else. False:
    /// nothing was done.
    pub fn passes(&mut self, leg: LegId, offset: u64, length: usize, now: Instant) -> bool {
        let opener = self.is_opener();
        let plain = matches!(self.phase, Phase::Open) && (opener || self.legs.moving.is_none());
        let on = self.legs.current.as_mut().filter(|on| plain && on.id == leg && on.is_plain());
        let Some(on) = on.filter(|_| self.receiver.pass(offset, length, now, &self.config)) else {
            return false;
        };
        on.heard_bytes(now);
        if opener {
            on.ask = Some(now + self.config.ask_after);
        }
        true
    }
}
