//! The words of `/punchline/stream/1`: frames, their bytes, and a strict decoder.
//!
//! One byte of kind, then fields of fixed size, big-endian; `design/wire.md` has the table. The
//! decoder never copies the payload of DATA; a frame that was built around its payload is not copied
//! on its way out either (the sending half of a machine does that).

mod code;
mod decoder;

use bytes::{BufMut, Bytes};

use super::StreamId;
use crate::service::Service;

pub use code::Code;
pub use decoder::{Decoder, FrameError, Item};

/// The version that this code speaks; it travels in HELLO and MOVE.
pub const VERSION: u8 = 1;

/// Kinds from this one on are for later versions: a frame is the kind, a u16 of length, and that many bytes,
/// and whoever does not know the kind skips it.
pub const SKIPPED_KIND_MIN: u8 = 192;

/// The features that this code knows, a bit each. HELLO names those of the opener, ATTACHED those that both
/// ends know; bits that are not known are ignored. There are none yet.
pub const FEATURES: u32 = 0;

/// Largest payload of one DATA frame. Larger frames would delay the acknowledgements that share
/// their direction and make a receiver hold more before it may deliver anything.
pub const DATA_BYTES_MAX: usize = 64 << 10;

/// What DATA has before its payload: kind, offset, length − 1.
pub const DATA_HEAD_BYTES: usize = 11;

/// Largest ticket in HELLO. It is read before the peer is known to be allowed anything.
pub const TICKET_BYTES_MAX: usize = 1 << 10;

/// Payload that an opener may send before its HELLO is answered: what a gRPC client says first
/// (preface, settings, headers, a small message) travels in the first flight, and a refused one
/// costs no more than this.
pub const EARLY_DATA_BYTES_MAX: u64 = 16 << 10;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opener, first on a leg: creates the stream, or joins it if its first leg died unanswered.
    Hello(Box<Hello>),
    /// Opener, first on a leg: carry on here.
    Move(Move),
    /// Acceptor, first on a leg: the answer to HELLO or MOVE.
    Attached(Attached),
    /// Payload.
    Data {
        /// Where the payload starts in the stream.
        offset: u64,
        /// 1 to [`DATA_BYTES_MAX`] bytes.
        payload: Bytes,
    },
    /// Everything below `received` has arrived.
    Ack {
        /// First offset not yet received.
        received: u64,
        /// First offset that may not be sent.
        limit: u64,
    },
    /// The sender has more to say than `limit` allows.
    Blocked {
        /// The limit that was hit.
        limit: u64,
    },
    /// There is no payload at or after `offset`.
    Fin {
        /// The size of the stream in this direction.
        offset: u64,
    },
    /// Everything up to FIN has arrived.
    FinAck {
        /// The offset of that FIN.
        offset: u64,
    },
    /// The stream (or, with [`Code::Stale`] and [`Code::Busy`], this leg) is over.
    Reset {
        /// Why.
        code: Code,
    },
    /// Acceptor: everything was received and acknowledged, both ways; the opener may forget.
    Done,
    /// Is this leg alive?
    Ping,
    /// It is.
    Pong,
    /// Please keep to `limit` although you were allowed more.
    Lower {
        /// First offset that should not be sent, unless it was already.
        limit: u64,
    },
    /// Nothing from `limit` on will be sent, unless it is allowed anew.
    Lowered {
        /// The lower limit; above the one asked for if more was sent already.
        limit: u64,
    },
}

/// The first words of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The stream.
    pub stream: StreamId,
    /// 0 on the stream's first leg; higher if that one died before it was answered.
    pub epoch: u32,
    /// The features that the opener knows.
    pub features: u32,
    /// First offset that the acceptor may not send.
    pub limit: u64,
    /// What the stream is for.
    pub service: Service,
    /// An opaque capability of at most [`TICKET_BYTES_MAX`] bytes; empty for none.
    pub ticket: Bytes,
}

/// A request to carry a known stream on this leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The stream.
    pub stream: StreamId,
    /// Higher than that of every earlier leg of the stream.
    pub epoch: u32,
    /// First offset that the opener has not received.
    pub received: u64,
    /// First offset that the acceptor may not send.
    pub limit: u64,
}

/// The answer that attaches a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The epoch of the HELLO or MOVE that this answers.
    pub epoch: u32,
    /// The features that both ends know.
    pub features: u32,
    /// First offset that the acceptor has not received.
    pub received: u64,
    /// First offset that the opener may not send.
    pub limit: u64,
}

/// What a frame is, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// HELLO.
    Hello = 1,
    /// MOVE.
    Move = 2,
    /// ATTACHED.
    Attached = 3,
    /// DATA.
    Data = 4,
    /// ACK.
    Ack = 5,
    /// BLOCKED.
    Blocked = 6,
    /// FIN.
    Fin = 7,
    /// FIN_ACK.
    FinAck = 8,
    /// RESET.
    Reset = 9,
    /// DONE.
    Done = 10,
    /// PING.
    Ping = 11,
    /// PONG.
    Pong = 12,
    /// LOWER.
    Lower = 13,
    /// LOWERED.
    Lowered = 14,
}

impl Frame {
    /// What this frame is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::Move(_) => Kind::Move,
            Self::Attached(_) => Kind::Attached,
            Self::Data { .. } => Kind::Data,
            Self::Ack { .. } => Kind::Ack,
            Self::Blocked { .. } => Kind::Blocked,
            Self::Fin { .. } => Kind::Fin,
            Self::FinAck { .. } => Kind::FinAck,
            Self::Reset { .. } => Kind::Reset,
            Self::Done => Kind::Done,
            Self::Ping => Kind::Ping,
            Self::Pong => Kind::Pong,
            Self::Lower { .. } => Kind::Lower,
            Self::Lowered { .. } => Kind::Lowered,
        }
    }

    /// Appends the frame to `out`.
    ///
    /// A DATA payload outside of 1 to [`DATA_BYTES_MAX`] bytes or a ticket over
    /// [`TICKET_BYTES_MAX`] cannot be said on the wire; the machine makes none.
    pub fn encode(&self, out: &mut impl BufMut) {
        if let Self::Data { offset, payload } = self {
            out.put_slice(&data_head(*offset, payload.len()));
            return out.put_slice(payload);
        }
        out.put_u8(self.kind() as u8);
        match self {
            Self::Hello(hello) => encode_hello(hello, out),
            Self::Move(r#move) => {
                out.put_u8(VERSION);
                out.put_slice(&r#move.stream.to_bytes());
                out.put_u32(r#move.epoch);
                out.put_u64(r#move.received);
                out.put_u64(r#move.limit);
            }
            Self::Attached(attached) => {
                out.put_u32(attached.epoch);
                out.put_u32(attached.features);
                out.put_u64(attached.received);
                out.put_u64(attached.limit);
            }
            Self::Ack { received, limit } => {
                out.put_u64(*received);
                out.put_u64(*limit);
            }
            Self::Fin { offset } | Self::FinAck { offset } => out.put_u64(*offset),
            Self::Blocked { limit } | Self::Lower { limit } | Self::Lowered { limit } => {
                out.put_u64(*limit);
            }
            Self::Reset { code } => out.put_u16((*code).into()),
            Self::Data { .. } | Self::Done | Self::Ping | Self::Pong => {}
        }
    }
}

/// The head of DATA with `length` bytes of payload.
pub(super) fn data_head(offset: u64, length: usize) -> [u8; DATA_HEAD_BYTES] {
    debug_assert!((1..=DATA_BYTES_MAX).contains(&length));
    let mut head = [Kind::Data as u8; DATA_HEAD_BYTES];
    head[1..9].copy_from_slice(&offset.to_be_bytes());
    head[9..].copy_from_slice(&((length - 1) as u16).to_be_bytes());
    head
}

fn encode_hello(hello: &Hello, out: &mut impl BufMut) {
    debug_assert!(hello.ticket.len() <= TICKET_BYTES_MAX);
    let name = hello.service.as_str().as_bytes();
    out.put_u8(VERSION);
    out.put_slice(&hello.stream.to_bytes());
    out.put_u32(hello.epoch);
    out.put_u32(hello.features);
    out.put_u64(hello.limit);
    out.put_u8(name.len() as u8);
    out.put_u16(hello.ticket.len() as u16);
    out.put_slice(name);
    out.put_slice(&hello.ticket);
}
