//! The members of the envelope's oneof: one name and one number each.

use std::fmt;

use super::Payload;

macro_rules! payload_kinds {
    ($($kind:ident = $number:literal $name:literal,)*) => {
        /// The kind of a payload: which member of the envelope's oneof it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum PayloadKind {
            $(#[doc = concat!("`", $name, "`, number ", stringify!($number), ".")] $kind = $number,)*
        }

        impl PayloadKind {
            /// Every kind, by number.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The kind of `payload`.
            pub fn of(payload: &Payload) -> Self {
                match payload {
                    $(Payload::$kind(_) => Self::$kind,)*
                }
            }

            /// The field's name in `messages.proto`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

payload_kinds! {
    Addresses = 1 "addresses",
    Block = 2 "block",
    Transaction = 3 "transaction",
    BlockLocator = 5 "blockLocator",
    RequestAddresses = 6 "requestAddresses",
    RequestRelayBlocks = 10 "requestRelayBlocks",
    RequestTransactions = 12 "requestTransactions",
    IbdBlock = 13 "ibdBlock",
    InvRelayBlock = 14 "invRelayBlock",
    InvTransactions = 15 "invTransactions",
    Ping = 16 "ping",
    Pong = 17 "pong",
    Verack = 19 "verack",
    Version = 20 "version",
    TransactionNotFound = 21 "transactionNotFound",
    Reject = 22 "reject",
    PruningPointUtxoSetChunk = 25 "pruningPointUtxoSetChunk",
    RequestIbdBlocks = 26 "requestIBDBlocks",
    UnexpectedPruningPoint = 27 "unexpectedPruningPoint",
    IbdBlockLocator = 30 "ibdBlockLocator",
    IbdBlockLocatorHighestHash = 31 "ibdBlockLocatorHighestHash",
    RequestNextPruningPointUtxoSetChunk = 33 "requestNextPruningPointUtxoSetChunk",
    DonePruningPointUtxoSetChunks = 34 "donePruningPointUtxoSetChunks",
    IbdBlockLocatorHighestHashNotFound = 35 "ibdBlockLocatorHighestHashNotFound",
    BlockWithTrustedData = 36 "blockWithTrustedData",
    DoneBlocksWithTrustedData = 37 "doneBlocksWithTrustedData",
    RequestPruningPointAndItsAnticone = 40 "requestPruningPointAndItsAnticone",
    BlockHeaders = 41 "blockHeaders",
    RequestNextHeaders = 42 "requestNextHeaders",
    DoneHeaders = 43 "DoneHeaders",
    RequestPruningPointUtxoSet = 44 "requestPruningPointUTXOSet",
    RequestHeaders = 45 "requestHeaders",
    RequestBlockLocator = 46 "requestBlockLocator",
    PruningPoints = 47 "pruningPoints",
    RequestPruningPointProof = 48 "requestPruningPointProof",
    PruningPointProof = 49 "pruningPointProof",
    Ready = 50 "ready",
    BlockWithTrustedDataV4 = 51 "blockWithTrustedDataV4",
    TrustedData = 52 "trustedData",
    RequestIbdChainBlockLocator = 53 "requestIBDChainBlockLocator",
    IbdChainBlockLocator = 54 "ibdChainBlockLocator",
    RequestAntipast = 55 "requestAntipast",
    RequestNextPruningPointAndItsAnticoneBlocks = 56 "requestNextPruningPointAndItsAnticoneBlocks",
    BlockBody = 57 "blockBody",
    RequestBlockBodies = 58 "requestBlockBodies",
    RequestPruningPointSmtState = 59 "requestPruningPointSmtState",
    SmtMetadata = 60 "smtMetadata",
    SmtLaneChunk = 61 "smtLaneChunk",
    RequestNextPruningPointSmtChunk = 63 "requestNextPruningPointSmtChunk",
    PruningPointProofChunk = 64 "pruningPointProofChunk",
    PruningPointProofChunksEnd = 65 "pruningPointProofChunksEnd",
    TrustedDataChunk = 66 "trustedDataChunk",
    TrustedDataChunksEnd = 67 "trustedDataChunksEnd",
}

impl PayloadKind {
    /// The number of the oneof's member.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// True for announcements, which may be dropped when a queue is full: nothing is lost
    /// that the peer or another one will not announce again.
    pub fn is_announcement(self) -> bool {
        matches!(self, Self::InvTransactions | Self::InvRelayBlock)
    }

    /// True for the messages that exist only before a session.
    pub fn is_handshake(self) -> bool {
        matches!(self, Self::Version | Self::Verack | Self::Ready)
    }
}

impl fmt::Display for PayloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
