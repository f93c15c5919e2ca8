//! Why a stream or a leg was ended.

/// Why a RESET was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// 1: the program at that end gave up.
    Cancelled,
    /// 2: no such stream for this peer. Says nothing else.
    Unknown,
    /// 3: the leg's epoch is not above the stream's; ends the leg, not the stream.
    Stale,
    /// 4: a queue is full; try later. In answer to MOVE it ends the leg, not the stream.
    Busy,
    /// 5: the service does not exist or is not for this peer; the two are not told apart.
    Refused,
    /// 6: the version in HELLO or MOVE is not spoken.
    VersionUnsupported,
    /// 7: a frame that is malformed or must not be said here.
    Protocol,
    /// 8: payload beyond the limit.
    FlowControl,
    /// 9: FIN and payload contradict each other.
    FinalSize,
    /// 10: that end is shutting down.
    Shutdown,
    /// 11: no path came back within that end's patience.
    Patience,
    /// 12: the program behind the service refused the connection.
    TargetRefused,
    /// 13: the program behind the service cannot be reached from that end.
    TargetUnreachable,
    /// 14: the ticket has expired.
    TicketExpired,
    /// 15: the ticket was for one use and has been used.
    TicketUsed,
    /// 16: the ticket was taken back.
    TicketRevoked,
    /// 17: the right to use the service was taken back while the stream was open.
    Revoked,
    /// 18: the program that the stream leads to reset its connection.
    TargetReset,
    /// 19: that end takes no streams through relays.
    DirectOnly,
    /// A value that this version has no name for.
    Other(u16),
}

impl From<u16> for Code {
    fn from(value: u16) -> Self {
        match value {
            1 => Self::Cancelled,
            2 => Self::Unknown,
            3 => Self::Stale,
            4 => Self::Busy,
            5 => Self::Refused,
            6 => Self::VersionUnsupported,
            7 => Self::Protocol,
            8 => Self::FlowControl,
            9 => Self::FinalSize,
            10 => Self::Shutdown,
            11 => Self::Patience,
            12 => Self::TargetRefused,
            13 => Self::TargetUnreachable,
            14 => Self::TicketExpired,
            15 => Self::TicketUsed,
            16 => Self::TicketRevoked,
            17 => Self::Revoked,
            18 => Self::TargetReset,
            19 => Self::DirectOnly,
            other => Self::Other(other),
        }
    }
}

impl From<Code> for u16 {
    fn from(code: Code) -> Self {
        match code {
            Code::Cancelled => 1,
            Code::Unknown => 2,
            Code::Stale => 3,
            Code::Busy => 4,
            Code::Refused => 5,
            Code::VersionUnsupported => 6,
            Code::Protocol => 7,
            Code::FlowControl => 8,
            Code::FinalSize => 9,
            Code::Shutdown => 10,
            Code::Patience => 11,
            Code::TargetRefused => 12,
            Code::TargetUnreachable => 13,
            Code::TicketExpired => 14,
            Code::TicketUsed => 15,
            Code::TicketRevoked => 16,
            Code::Revoked => 17,
            Code::TargetReset => 18,
            Code::DirectOnly => 19,
            Code::Other(other) => other,
        }
    }
}
