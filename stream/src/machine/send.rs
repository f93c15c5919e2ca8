//! What was written and is not yet acknowledged.

mod room;

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};

use super::{
    super::{
        budget::Budget,
        frame::{DATA_HEAD_BYTES, data_head},
    },
    config::Config,
    error::Violation,
    holding::Holding,
    round_trip::RoundTrip,
};

/// Smallest buffer for written bytes: holds many small messages.
const TAIL_BYTES_MIN: usize = 2 << 10;

/// Payload of at least this size is written from where it is kept. Less is copied into the leg's buffer.
const IMAGE_BYTES_MIN: usize = 16 << 10;

/// Queue entries kept when nothing is retained.
const IDLE_CHUNKS_MAX: usize = 8;

/// The sending half: retains what was written until it is acknowledged.
///
/// ```text
/// 0 ... acked ... cursor ... tail_start ... written
///       |-- chunks ----------|-- tail ----|
/// ```
/// `cursor` is what is sent next on the current leg; a move sets it back.
///
/// A large write is kept as the frame that it goes out in, so that it is copied once. Small writes are
/// gathered in the tail and sent from there.
#[derive(Debug)]
pub(super) struct Sender {
    chunks: VecDeque<Chunk>,
    /// What was written last: room for the head of a frame, then payload; or empty. When it is full, or much
    /// of it is to go out, it becomes a chunk.
    tail: BytesMut,
    /// Memory of acknowledged chunks, for the next tails; counts as retained.
    recycled: Vec<BytesMut>,
    tail_start: u64,
    acked: u64,
    cursor: u64,
    /// First offset never sent on any leg.
    sent: u64,
    /// First offset that the peer does not allow.
    limit: u64,
    /// How much may be retained. More is only what was there when it shrank.
    capacity: u64,
    holding: Holding,
    /// What was acknowledged when the budget refused to grow this; it is asked again after more is.
    denied_at: Option<u64>,
    /// Without any leg: the offset up to which may be written until there is one.
    parked_end: Option<u64>,
    /// The peer asked for a lower limit, and is to be told this one.
    lowered: Option<u64>,
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

impl Sender {
    /// `limit`: what may be sent before the peer says more.
    pub(super) fn new(limit: u64, config: &Config, budget: &Arc<Budget>) -> Self {
        Self {
            chunks: VecDeque::new(),
            tail: BytesMut::new(),
            recycled: Vec::new(),
            tail_start: 0,
            acked: 0,
            cursor: 0,
            sent: 0,
            limit,
            capacity: config.window_initial.max(1),
            holding: Holding::new(budget),
            denied_at: None,
            parked_end: None,
            lowered: None,
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
        self.capacity.max(self.retained())
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

    /// The peer has everything: DONE says so.
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
        while self.room(config) < wanted && self.grow(config) {}
        let taken = wanted.min(self.room(config)) as usize;
        self.append(&bytes[..taken], config);
        self.refused = taken < bytes.len();
        taken
    }

    /// Takes all of `bytes` as sent, if they may go out at once and in one frame. Returns where they start.
    pub(super) fn send(
        &mut self,
        bytes: &[u8],
        now: impl Fn() -> Instant,
        config: &Config,
    ) -> Option<u64> {
        let (offset, length) = (self.cursor, bytes.len() as u64);
        let room = self.room(config).min(self.limit.saturating_sub(offset));
        let fits = length > 0 && length <= room.min(config.data_bytes() as u64);
        if !fits || offset != self.written() || self.is_finished() {
            return None;
        }
        let gathers = !self.tail.is_empty() && bytes.len() <= self.tail.capacity() - self.tail.len();
        match gathers {
            true => self.tail.extend_from_slice(bytes),
            false => self.append(bytes, config),
        }
        self.refused = false;
        self.advance(length, now);
        Some(offset)
    }

    fn advance(&mut self, bytes: u64, now: impl Fn() -> Instant) {
        self.cursor += bytes;
        self.sent = self.sent.max(self.cursor);
        self.round_trip.sent(self.cursor, now);
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
        let used = self.recycled.pop().filter(|used| used.capacity() >= size);
        used.unwrap_or_else(|| BytesMut::with_capacity(size))
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

    /// Where the next payload for the current leg lies. It counts as sent.
    pub(super) fn next_data(&mut self, now: Instant, config: &Config) -> Option<Range<u64>> {
        let offset = self.cursor;
        let room = self.limit.saturating_sub(offset).min(config.data_bytes() as u64);
        if room == 0 || offset == self.written() {
            return None;
        }
        if offset == self.tail_start && self.tail.len() >= DATA_HEAD_BYTES + IMAGE_BYTES_MIN {
            self.freeze_tail();
        }
        let unsent = match offset < self.tail_start {
            true => self.kept(offset)?.1.len() as u64,
            false => self.written() - offset,
        };
        self.advance(room.min(unsent), || now);
        Some(offset..self.cursor)
    }

    /// What [`Sender::next_data`] gave last, and the frame with it if it is kept and worth a write.
    pub(super) fn data(&self, range: &Range<u64>) -> (&[u8], Option<Bytes>) {
        let Some((chunk, kept)) = self.kept(range.start) else { return (&[], None) };
        let payload = &kept[..(range.end - range.start) as usize];
        let large = payload.len() >= IMAGE_BYTES_MIN;
        let whole = |chunk: &&Chunk| large && std::ptr::eq(payload, chunk.payload());
        (payload, chunk.filter(whole).map(|chunk| chunk.image.clone()))
    }

    /// What is kept from an offset on, in one piece; and the chunk, unless it is the tail.
    fn kept(&self, offset: u64) -> Option<(Option<&Chunk>, &[u8])> {
        let (chunk, start, payload) = match offset.checked_sub(self.tail_start) {
            Some(_) => (None, self.tail_start, self.tail.get(DATA_HEAD_BYTES..)?),
            None => {
                let after = self.chunks.partition_point(|chunk| chunk.start <= offset);
                let chunk = &self.chunks[after.checked_sub(1)?];
                (Some(chunk), chunk.start, chunk.payload())
            }
        };
        Some((chunk, payload.get((offset - start) as usize..)?))
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
            self.recycle(chunk, config);
        }
        if self.retained() == 0 {
            self.release(config);
        }
        self.fall_back(config);
        Ok(true)
    }

    /// Keeps the memory of a full chunk, within what may be retained.
    fn recycle(&mut self, chunk: Option<Chunk>, config: &Config) {
        let full = config.data_bytes() + DATA_HEAD_BYTES;
        let room =
            (self.recycled.len() + 1) * full <= self.capacity.saturating_sub(self.retained()) as usize;
        let bytes = chunk.map(|chunk| chunk.image).filter(|image| room && image.len() == full);
        if let Some(Ok(mut memory)) = bytes.map(Bytes::try_into_mut) {
            memory.clear();
            self.recycled.push(memory);
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

    /// The peer allows everything below `limit`; only a move or LOWER lowers it.
    pub(super) fn allow(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// A new leg starts after what the peer says it has, with the limit that it says. The peer may have
    /// acknowledged more on the leg before since it said that. The limit may be lower than before: a peer that
    /// had no leg has given back the memory for more.
    pub(super) fn rewind(
        &mut self,
        received: u64,
        limit: u64,
        now: Instant,
        config: &Config,
    ) -> Result<(), Violation> {
        self.acknowledge(received, now, config)?;
        self.rewind_to_acked();
        self.limit = limit;
        self.parked_end = None;
        Ok(())
    }

    /// A new leg starts after what is known to be acknowledged.
    pub(super) fn rewind_to_acked(&mut self) {
        self.cursor = self.acked;
        self.fin_sent = false;
        self.blocked_at = None;
        self.lowered = None;
        self.round_trip = RoundTrip::default();
    }

    /// Whether a writer that was refused should try again; asked once for each refusal.
    pub(super) fn take_writable(&mut self, config: &Config) -> bool {
        let writable = self.refused && (self.room(config) > 0 || self.grow(config));
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
        self.recycled = Vec::new();
        self.chunks.clear();
        self.chunks.shrink_to(IDLE_CHUNKS_MAX);
        self.holding.shrink_to(0);
        self.capacity = config.window_initial.max(1);
    }

    fn impossible(&self, received: u64) -> Violation {
        Violation::Acknowledged { received, sent: self.sent }
    }
}
