//! What arrived and is not yet read.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    super::budget::Budget,
    config::Config,
    error::Violation,
    holding::{Holding, Look},
};

/// Payload is gathered into pieces of this size, so that growing one copies little.
const TAIL_BYTES_MAX: usize = 64 << 10;

/// Queue entries kept when nothing is buffered.
const IDLE_ENTRIES_MAX: usize = 8;

/// A limit is worth an ACK of its own when it grew by a window divided by this.
const CREDIT_STEPS: u64 = 2;

/// The receiving half: buffers in order what was not read, and decides on acknowledgements. Payload
/// that a reader waits for goes past it.
///
/// ```text
/// 0 ... read ... received ... limit ≤ read + largest window so far
///       |-- buffered --|-- allowed --|
/// ```
#[derive(Debug)]
pub(super) struct Receiver {
    queue: VecDeque<Bytes>,
    /// After everything in `queue`.
    tail: BytesMut,
    received: u64,
    read: u64,
    window: u64,
    window_initial: u64,
    /// First offset that the peer was not allowed. Above `read + window` while a window falls back.
    limit: u64,
    /// The peer is asked to do with less than `limit`.
    lowering: Option<Lowering>,
    holding: Holding,
    /// `received` when the window last grew.
    grown_at: u64,
    size: Option<u64>,
    /// A reader found nothing and waits.
    starved: bool,
    unacknowledged: u64,
    acknowledged_at: Option<Instant>,
    ack_due: Option<Instant>,
    ack_now: bool,
    fin_ack_owed: bool,
}

/// A limit that the peer is asked to keep to instead of a higher one.
#[derive(Debug)]
struct Lowering {
    /// The highest that it was told since it was asked.
    limit: u64,
    said: bool,
}

impl Receiver {
    pub(super) fn new(config: &Config, budget: &Arc<Budget>) -> Self {
        Self {
            queue: VecDeque::new(),
            tail: BytesMut::new(),
            received: 0,
            read: 0,
            window: config.window_initial.max(1),
            window_initial: config.window_initial.max(1),
            limit: config.window_initial.max(1),
            lowering: None,
            holding: Holding::new(budget),
            grown_at: 0,
            size: None,
            starved: true,
            unacknowledged: 0,
            acknowledged_at: None,
            ack_due: None,
            ack_now: false,
            fin_ack_owed: false,
        }
    }

    pub(super) fn buffered(&self) -> u64 {
        self.received - self.read
    }

    /// What the peer may make us buffer.
    pub(super) fn window(&self) -> u64 {
        self.window.max(self.limit.saturating_sub(self.read))
    }

    /// Everything up to the FIN has arrived.
    pub(super) fn is_complete(&self) -> bool {
        self.size == Some(self.received)
    }

    /// Everything up to the FIN has been read.
    pub(super) fn is_read_out(&self) -> bool {
        self.size == Some(self.read)
    }

    /// Whether a reader is owed the byte at `offset` next, and it has only now arrived.
    pub(super) fn is_next(&self, offset: u64) -> bool {
        offset == self.received && self.buffered() == 0
    }

    /// Takes payload: keeps what is new of it, but for its first `past` bytes. These are the
    /// [next](Self::is_next), and a reader gets them from the leg.
    pub(super) fn payload(
        &mut self,
        offset: u64,
        payload: &[u8],
        past: usize,
        now: Instant,
        config: &Config,
    ) -> Result<(), Violation> {
        debug_assert!(past == 0 || self.is_next(offset));
        let new = self.admit(offset, payload.len(), now, config)?;
        let kept = new.min(payload.len() - past);
        self.store(&payload[payload.len() - kept..]);
        if past > 0 {
            self.read += past as u64;
            self.starved = false;
            self.fall_back();
        }
        Ok(())
    }

    /// Payload that arrives, without its bytes. Returns how much at its end is new.
    fn admit(
        &mut self,
        offset: u64,
        length: usize,
        now: Instant,
        config: &Config,
    ) -> Result<usize, Violation> {
        let (limit, length) = (self.limit, length as u64);
        let end = offset.checked_add(length).filter(|end| *end <= limit);
        let end = end.ok_or(Violation::BeyondLimit { offset, length, limit })?;
        if let Some(size) = self.size.filter(|size| end > *size) {
            return Err(Violation::FinalSize { size, offset: end });
        }
        if offset > self.received {
            return Err(Violation::Hole { offset, received: self.received });
        }
        let new = end.saturating_sub(self.received);
        self.arrived(new, now, config);
        Ok(new as usize)
    }

    /// Payload of which so many bytes are new.
    fn arrived(&mut self, new: u64, now: Instant, config: &Config) {
        self.ack_due.get_or_insert_with(|| now + config.ack_delay);
        self.received += new;
        self.unacknowledged += new;
        if self.unacknowledged >= config.ack_every_bytes {
            self.acknowledge_after_pause(now, config);
        }
    }

    /// Counts payload as received and read, if it is what a reader gets next, allowed, and not known to be
    /// the last.
    pub(super) fn pass(&mut self, offset: u64, length: usize, now: Instant, config: &Config) -> bool {
        let length = length as u64;
        let allowed = length <= self.limit - self.received && self.size.is_none();
        let passes = allowed && self.is_next(offset);
        if passes {
            self.arrived(length, now, config);
            self.read += length;
            self.starved = false;
            self.fall_back();
        }
        passes
    }

    /// Much has come: acknowledges it, but not so often that the sender has more work with that than
    /// with sending.
    fn acknowledge_after_pause(&mut self, now: Instant, config: &Config) {
        let due = self.acknowledged_at.map_or(now, |at| at + config.ack_pause);
        self.ack_now |= due <= now || self.unacknowledged >= config.unacknowledged_max;
        self.ack_due = Some(self.ack_due.map_or(due, |before| before.min(due)));
    }

    fn store(&mut self, mut payload: &[u8]) {
        while !payload.is_empty() {
            if self.tail.len() == TAIL_BYTES_MAX {
                self.freeze_tail();
            }
            let room = TAIL_BYTES_MAX - self.tail.len();
            let (now, later) = payload.split_at(room.min(payload.len()));
            self.tail.extend_from_slice(now);
            payload = later;
        }
    }

    fn freeze_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// Takes FIN: the size is `offset`.
    pub(super) fn fin(&mut self, offset: u64) -> Result<(), Violation> {
        if let Some(size) = self.size.filter(|size| *size != offset) {
            return Err(Violation::FinalSize { size, offset });
        }
        if offset < self.received {
            return Err(Violation::FinalSize { size: self.received, offset });
        }
        if offset > self.received {
            return Err(Violation::Hole { offset, received: self.received });
        }
        self.size = Some(offset);
        self.fin_ack_owed = true;
        if self.buffered() == 0 {
            self.release();
        }
        Ok(())
    }

    /// The peer had to stop at `limit`: doubles the window if the reader keeps up, half a window
    /// came since it last grew, and the budget has it.
    pub(super) fn blocked(&mut self, limit: u64, config: &Config) -> Result<(), Violation> {
        if limit > self.limit {
            return Err(Violation::Limit { limit });
        }
        let target = self.window.saturating_mul(2).min(config.window_max);
        let keeps_up = self.size.is_none() && self.buffered() < self.window.div_ceil(2);
        let flows = self.received - self.grown_at >= self.window / 2;
        if self.lowering.is_none()
            && keeps_up
            && flows
            && target > self.window
            && self.holding.grow(target - self.window)
        {
            self.window = target;
            self.grown_at = self.received;
        }
        Ok(())
    }

    /// A reader found nothing and waits, if nothing is there and more is to come.
    pub(super) fn starve(&mut self) -> bool {
        let starves = self.buffered() == 0 && self.size.is_none();
        self.starved |= starves;
        starves
    }

    /// Copies out what fits into `out`; returns how much, 0 if nothing is there.
    pub(super) fn read(&mut self, out: &mut [u8]) -> usize {
        if self.buffered() == 0 {
            self.starved = true;
            return 0;
        }
        let mut copied = 0;
        while copied < out.len() {
            let room = &mut out[copied..];
            let taken = if let Some(front) = self.queue.front_mut() {
                let taken = take(front, room);
                if front.is_empty() {
                    self.queue.pop_front();
                }
                taken
            } else {
                take(&mut self.tail, room)
            };
            if taken == 0 {
                break;
            }
            copied += taken;
        }
        self.read += copied as u64;
        self.starved = false;
        self.fall_back();
        if self.buffered() == 0 {
            self.release();
        }
        copied
    }

    /// Whether a reader that found nothing should try again; asked once for each time.
    pub(super) fn take_readable(&mut self) -> bool {
        let readable = self.starved && (self.buffered() > 0 || self.size.is_some());
        self.starved &= !readable;
        readable
    }

    /// The peer waits for word of what has arrived.
    pub(super) fn acknowledge_soon(&mut self) {
        self.ack_now = true;
    }

    /// Whether an ACK is due.
    fn owes_ack(&self) -> bool {
        let step = (self.window / CREDIT_STEPS).max(1);
        let grew = self.read.saturating_add(self.window) >= self.limit.saturating_add(step);
        self.ack_now || (grew && self.size.is_none())
    }

    /// Whether the peer is to be told of something now.
    pub(super) fn owes_word(&self) -> bool {
        let lowers = self.lowering.as_ref().is_some_and(|lowering| !lowering.said);
        self.fin_ack_owed || lowers || self.owes_ack()
    }

    /// The ACK that is due, as `(received, limit)`.
    pub(super) fn next_ack(&mut self, now: Instant) -> Option<(u64, u64)> {
        self.owes_ack().then(|| self.announce(now))
    }

    /// What this end has and allows, for a frame on the current leg.
    pub(super) fn announce(&mut self, now: Instant) -> (u64, u64) {
        self.unacknowledged = 0;
        self.acknowledged_at = Some(now);
        self.ack_now = false;
        self.ack_due = None;
        self.position()
    }

    /// What this end has and allows, for a leg that may never carry the stream: the
    /// acknowledgement on the current leg stays due.
    pub(super) fn position(&mut self) -> (u64, u64) {
        let told = self.read.saturating_add(self.window).max(self.received);
        let told = match &mut self.lowering {
            Some(lowering) => {
                lowering.limit = lowering.limit.max(told);
                lowering.limit
            }
            None => told.max(self.limit),
        };
        self.limit = self.limit.max(told);
        (self.received, told)
    }

    /// The limit that the peer is to be asked to keep to.
    pub(super) fn next_lower(&mut self) -> Option<u64> {
        let lowering = self.lowering.as_mut().filter(|lowering| !lowering.said)?;
        lowering.said = true;
        Some(lowering.limit)
    }

    /// The peer keeps to `limit`, or to what it was told since.
    pub(super) fn lowered(&mut self, limit: u64) -> Result<(), Violation> {
        let asked = self.lowering.take_if(|lowering| lowering.said);
        let asked = asked.ok_or(Violation::Limit { limit })?;
        if limit < self.received || limit > self.limit {
            return Err(Violation::Limit { limit });
        }
        self.limit = limit.max(asked.limit);
        self.fall_back();
        Ok(())
    }

    /// Another leg carries the stream: what was asked on the one before has no answer.
    pub(super) fn change_leg(&mut self) {
        self.lowering = None;
    }

    /// No leg is left on which payload could come: the window is the initial one, and the next leg begins
    /// with its limit.
    pub(super) fn park(&mut self) {
        self.lowering = None;
        self.window = self.window_initial;
        self.limit = self.received.max(self.read.saturating_add(self.window));
        self.fall_back();
    }

    /// Looks after what is held of the budget. False if that is too much for too long.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        let window = match self.holding.look(self.read, now) {
            Look::Keep => return true,
            Look::Hoards => return false,
            Look::FallTo(more) => self.window_initial.saturating_add(more).min(self.window),
        };
        self.window = window;
        self.fall_back();
        let limit = self.received.max(self.read.saturating_add(window));
        if limit < self.limit && self.size.is_none() && self.lowering.is_none() {
            self.lowering = Some(Lowering { limit, said: false });
        }
        true
    }

    /// When [`Receiver::look`] is to be called.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.holding.look_at()
    }

    /// To be called after everything that may have made the window grow.
    pub(super) fn arm(&mut self, now: Instant) {
        self.holding.arm(now);
    }

    /// Gives back what a window that falls back needs no longer.
    #[inline]
    fn fall_back(&mut self) {
        if self.holding.is_above(self.window - self.window_initial) {
            self.holding.shrink_to(self.window() - self.window_initial);
        }
    }

    /// The FIN_ACK that is due.
    pub(super) fn next_fin_ack(&mut self) -> Option<u64> {
        let owed = self.fin_ack_owed;
        self.fin_ack_owed = false;
        self.size.filter(|_| owed)
    }

    /// When the acknowledgement that waits is due.
    pub(super) fn ack_due(&self) -> Option<Instant> {
        self.ack_due.filter(|_| !self.ack_now)
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.ack_due.is_some_and(|due| due <= now) {
            self.ack_due = None;
            self.ack_now = true;
        }
    }

    /// Drops what was not read.
    pub(super) fn abandon(&mut self) {
        self.read = self.received;
        self.queue.clear();
        self.tail = BytesMut::new();
        self.release();
        self.holding.shrink_to(0);
    }

    /// Frees the memory when nothing is buffered, and the grant when nothing more will come.
    fn release(&mut self) {
        self.tail = BytesMut::new();
        self.queue.shrink_to(IDLE_ENTRIES_MAX);
        if self.is_complete() {
            self.holding.shrink_to(0);
        }
    }
}

/// Moves what fits from `from` to `out`; returns how much.
fn take(from: &mut impl Buf, out: &mut [u8]) -> usize {
    let taken = from.remaining().min(out.len());
    from.copy_to_slice(&mut out[..taken]);
    taken
}
