//! What was written and is not yet acknowledged.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::{
    super::{
        budget::{Budget, Grant},
        frame::{DATA_HEAD_BYTES, data_head},
    },
    config::Config,
    error::Violation,
};

/// Smallest buffer for written bytes. Smaller, and small messages pay an allocation each.
const TAIL_BYTES_MIN: usize = 2 << 10;

/// A send buffer has at most one chunk for this many bytes of its capacity; beyond, new writes
/// gather until an acknowledgement frees some. Keeps the bookkeeping of one-byte messages below
/// the size of the buffer.
const BYTES_PER_CHUNK_MIN: u64 = 64;

/// Chunks always allowed, however small the buffer.
const CHUNKS_MIN: u64 = 16;

/// Queue entries kept when nothing is retained.
const IDLE_CHUNKS_MAX: usize = 8;

/// A round trip this far above twice the shortest is queueing, not distance: a larger window
/// would lengthen the queue. The pause between the acknowledgements of the peer, and what it takes to
/// be scheduled.
const QUEUEING_SLACK: Duration = Duration::from_millis(13);

/// The sending half: retains what was written until it is acknowledged.
///
/// ```text
/// 0 ... acked ... cursor ... tail_start ... written
///       |-- chunks ----------|-- tail ----|
/// ```
/// `cursor` is what is sent next on the current leg; a move sets it back.
///
/// Bytes are kept as the frame that they go out in, so that what is written is copied once.
#[derive(Debug)]
pub(super) struct Sender {
    chunks: VecDeque<Chunk>,
    /// Gathers small writes; never sent from, only frozen into a chunk. Room for the head of its frame,
    /// then payload; or empty.
    tail: BytesMut,
    /// Memory of acknowledged chunks, for the next tails; counts as retained.
    spares: Vec<BytesMut>,
    tail_start: u64,
    acked: u64,
    cursor: u64,
    /// First offset never sent on any leg.
    sent: u64,
    /// First offset that the peer does not allow.
    limit: u64,
    capacity: u64,
    grant: Grant,
    fin: Fin,
    /// Whether FIN was sent on the current leg.
    fin_sent: bool,
    /// The last write did not fit.
    refused: bool,
    /// The limit that the peer was told of on this leg.
    blocked_at: Option<u64>,
    round_trip: RoundTrip,
}

/// A DATA frame as it goes over the wire.
#[derive(Debug)]
struct Chunk {
    start: u64,
    image: Bytes,
}

impl Chunk {
    fn payload(&self) -> &[u8] {
        &self.image[DATA_HEAD_BYTES..]
    }

    fn end(&self) -> u64 {
        self.start + self.payload().len() as u64
    }
}

/// `Open → Wanted → Said → Acked`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fin {
    /// More may be written.
    Open,
    /// Nothing more will be written.
    Wanted,
    /// The peer was told, on some leg.
    Said,
    /// The peer has everything.
    Acked,
}

/// One sample of the time to acknowledge at a time, on the current leg.
#[derive(Debug, Default)]
struct RoundTrip {
    probe: Option<(u64, Instant)>,
    last: Duration,
    shortest: Option<Duration>,
}

impl Sender {
    /// `limit`: what may be sent before the peer says more.
    pub(super) fn new(limit: u64, config: &Config, budget: &Arc<Budget>) -> Self {
        Self {
            chunks: VecDeque::new(),
            tail: BytesMut::new(),
            spares: Vec::new(),
            tail_start: 0,
            acked: 0,
            cursor: 0,
            sent: 0,
            limit,
            capacity: config.window_initial.max(1),
            grant: Grant::empty(budget),
            fin: Fin::Open,
            fin_sent: false,
            refused: false,
            blocked_at: None,
            round_trip: RoundTrip::default(),
        }
    }

    pub(super) fn written(&self) -> u64 {
        self.tail_start + self.tail.len().saturating_sub(DATA_HEAD_BYTES) as u64
    }

    pub(super) fn retained(&self) -> u64 {
        self.written() - self.acked
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn is_finished(&self) -> bool {
        self.fin > Fin::Open
    }

    pub(super) fn is_delivered(&self) -> bool {
        self.fin == Fin::Acked
    }

    /// Whether the peer was told, on some leg, where the stream ends.
    pub(super) fn is_said(&self) -> bool {
        self.fin >= Fin::Said
    }

    /// The peer has everything and says so in a word that implies it.
    pub(super) fn delivered(&mut self, config: &Config) {
        self.fin = Fin::Acked;
        self.abandon(config);
    }

    /// Whether the peer owes an acknowledgement for something said on this leg.
    pub(super) fn in_flight(&self) -> bool {
        self.cursor > self.acked || (self.fin_sent && self.fin != Fin::Acked)
    }

    /// Takes as much of `bytes` as fits; returns how much.
    pub(super) fn write(&mut self, bytes: &[u8], config: &Config) -> usize {
        let wanted = bytes.len() as u64;
        while self.capacity - self.retained() < wanted && self.grow(config) {}
        let taken = wanted.min(self.capacity - self.retained()) as usize;
        self.append(&bytes[..taken], config);
        self.refused = taken < bytes.len();
        taken
    }

    /// Doubles the capacity if the peer's window, the settings and the budget allow it.
    fn grow(&mut self, config: &Config) -> bool {
        let target = self.capacity.saturating_mul(2).min(config.window_max);
        let useful = self.limit.saturating_sub(self.acked) > self.capacity;
        let grown = useful && target > self.capacity && self.grant.grow(target - self.capacity);
        if grown {
            self.capacity = target;
        }
        grown
    }

    fn append(&mut self, mut bytes: &[u8], config: &Config) {
        while !bytes.is_empty() {
            let worth = DATA_HEAD_BYTES + bytes.len().min(TAIL_BYTES_MIN).min(config.data_bytes());
            if self.tail.is_empty() && self.tail.capacity() >= worth {
                self.tail.extend_from_slice(&[0; DATA_HEAD_BYTES]);
            }
            let room = self.tail.capacity() - self.tail.len();
            if self.tail.is_empty() || room == 0 {
                let unsent = (self.written() - self.cursor) as usize;
                self.freeze_tail();
                let size = bytes.len().max(unsent).max(TAIL_BYTES_MIN).min(config.data_bytes());
                self.tail = self.memory(size + DATA_HEAD_BYTES);
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.tail.extend_from_slice(now);
            bytes = later;
        }
    }

    fn memory(&mut self, size: usize) -> BytesMut {
        let spare = self.spares.pop().filter(|spare| spare.capacity() >= size);
        spare.unwrap_or_else(|| BytesMut::with_capacity(size))
    }

    fn freeze_tail(&mut self) {
        if let Some(payload @ 1..) = self.tail.len().checked_sub(DATA_HEAD_BYTES) {
            let start = self.tail_start;
            self.tail[..DATA_HEAD_BYTES].copy_from_slice(&data_head(start, payload));
            self.tail_start += payload as u64;
            self.chunks.push_back(Chunk { start, image: self.tail.split().freeze() });
        }
    }

    /// Nothing more will be written.
    pub(super) fn finish(&mut self) {
        self.fin = self.fin.max(Fin::Wanted);
        self.refused = false;
    }

    /// The next payload for the current leg, and its offset.
    pub(super) fn next_data(&mut self, now: Instant, config: &Config) -> Option<(u64, Bytes)> {
        let room = self.limit.saturating_sub(self.cursor).min(config.data_bytes() as u64);
        if room == 0 {
            return None;
        }
        let chunks_max = (self.capacity / BYTES_PER_CHUNK_MIN).max(CHUNKS_MIN);
        if self.cursor == self.tail_start && (self.chunks.len() as u64) < chunks_max {
            self.freeze_tail();
        }
        let chunk = &self.chunks[self.chunk_at(self.cursor)?];
        let unsent = chunk.payload().get((self.cursor - chunk.start) as usize..)?;
        let length = unsent.len().min(room as usize);
        if length == 0 {
            return None;
        }
        let payload = chunk.image.slice_ref(&unsent[..length]);
        let offset = self.cursor;
        self.cursor += length as u64;
        self.sent = self.sent.max(self.cursor);
        self.round_trip.sent(self.cursor, now);
        Some((offset, payload))
    }

    /// The bytes of a DATA frame with this payload, if it is kept in this form.
    pub(super) fn image(&self, offset: u64, payload: &[u8]) -> Option<Bytes> {
        let chunk = &self.chunks[self.chunk_at(offset)?];
        let same = chunk.start == offset && std::ptr::eq(chunk.payload(), payload);
        same.then(|| chunk.image.clone())
    }

    /// The chunk that begins last at or before an offset.
    fn chunk_at(&self, offset: u64) -> Option<usize> {
        // Mostly the last: a small message goes out as it is written.
        if self.chunks.back().is_some_and(|last| last.start <= offset) {
            return Some(self.chunks.len() - 1);
        }
        self.chunks.partition_point(|chunk| chunk.start <= offset).checked_sub(1)
    }

    /// FIN, if it is due on the current leg.
    pub(super) fn next_fin(&mut self) -> Option<u64> {
        let due = matches!(self.fin, Fin::Wanted | Fin::Said);
        if !due || self.fin_sent || self.cursor < self.written() {
            return None;
        }
        self.fin = Fin::Said;
        self.fin_sent = true;
        Some(self.written())
    }

    /// BLOCKED, if a larger limit would help. Once for each limit.
    pub(super) fn next_blocked(&mut self) -> Option<u64> {
        let more = self.cursor < self.written() || self.refused;
        let due = more && self.cursor >= self.limit && self.blocked_at != Some(self.limit);
        if !due || self.round_trip.is_queueing() {
            return None;
        }
        self.blocked_at = Some(self.limit);
        self.blocked_at
    }

    /// The peer has everything below `received`. True if that is news.
    pub(super) fn acknowledge(
        &mut self,
        received: u64,
        now: Instant,
        config: &Config,
    ) -> Result<bool, Violation> {
        if received > self.sent {
            return Err(self.impossible(received));
        }
        if received <= self.acked {
            return Ok(false);
        }
        self.acked = received;
        self.cursor = self.cursor.max(received);
        self.round_trip.acknowledged(received, now);
        while self.chunks.front().is_some_and(|chunk| chunk.end() <= received) {
            let chunk = self.chunks.pop_front();
            self.spare(chunk, config);
        }
        if self.retained() == 0 {
            self.release(config);
        }
        Ok(true)
    }

    /// Keeps the memory of a full chunk, within what may be retained.
    fn spare(&mut self, chunk: Option<Chunk>, config: &Config) {
        let full = config.data_bytes() + DATA_HEAD_BYTES;
        let room = (self.spares.len() + 1) * full <= (self.capacity - self.retained()) as usize;
        let bytes = chunk.map(|chunk| chunk.image).filter(|image| room && image.len() == full);
        if let Some(Ok(mut spare)) = bytes.map(Bytes::try_into_mut) {
            spare.clear();
            self.spares.push(spare);
        }
    }

    /// The peer has everything up to the FIN at `offset`. True if that is news.
    pub(super) fn fin_acknowledged(
        &mut self,
        offset: u64,
        now: Instant,
        config: &Config,
    ) -> Result<bool, Violation> {
        if self.fin < Fin::Said || offset != self.written() {
            return Err(self.impossible(offset));
        }
        self.acknowledge(offset, now, config)?;
        let news = self.fin != Fin::Acked;
        self.fin = Fin::Acked;
        Ok(news)
    }

    /// The peer allows everything below `limit`; limits never fall.
    pub(super) fn allow(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// A new leg carries on after what the peer says it has. It may have acknowledged more on the
    /// leg before while it said so.
    pub(super) fn rewind(
        &mut self,
        received: u64,
        now: Instant,
        config: &Config,
    ) -> Result<(), Violation> {
        self.acknowledge(received, now, config)?;
        self.rewind_to_acked();
        Ok(())
    }

    /// A new leg carries on after what is known to be acknowledged.
    pub(super) fn rewind_to_acked(&mut self) {
        self.cursor = self.acked;
        self.fin_sent = false;
        self.blocked_at = None;
        self.round_trip = RoundTrip::default();
    }

    /// Whether a writer that was refused should try again; asked once for each refusal.
    pub(super) fn take_writable(&mut self, config: &Config) -> bool {
        let writable = self.refused && (self.retained() < self.capacity || self.grow(config));
        self.refused &= !writable;
        writable
    }

    /// Gives up everything; nothing will be sent again.
    pub(super) fn abandon(&mut self, config: &Config) {
        self.acked = self.written();
        self.cursor = self.acked;
        self.refused = false;
        self.release(config);
    }

    /// Frees the memory when nothing is retained.
    fn release(&mut self, config: &Config) {
        self.tail_start = self.acked;
        self.tail = BytesMut::new();
        self.spares = Vec::new();
        self.chunks.clear();
        self.chunks.shrink_to(IDLE_CHUNKS_MAX);
        self.grant.release();
        self.capacity = config.window_initial.max(1);
    }

    fn impossible(&self, received: u64) -> Violation {
        Violation::Acknowledged { received, sent: self.sent }
    }
}

impl RoundTrip {
    fn sent(&mut self, end: u64, now: Instant) {
        self.probe.get_or_insert((end, now));
    }

    fn acknowledged(&mut self, received: u64, now: Instant) {
        if let Some((end, at)) = self.probe
            && received >= end
        {
            self.probe = None;
            self.last = now.saturating_duration_since(at);
            self.shortest = Some(self.shortest.map_or(self.last, |s| s.min(self.last)));
        }
    }

    fn is_queueing(&self) -> bool {
        self.shortest.is_some_and(|shortest| self.last > shortest * 2 + QUEUEING_SLACK)
    }
}
