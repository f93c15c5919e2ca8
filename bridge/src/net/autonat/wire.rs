//! The messages of AutoNAT v2.
//!
//! Source: libp2p's specification `autonat/autonat-v2.md`.

use libp2p::{Multiaddr, StreamProtocol};
use prost::Message;

/// Between a client and a server: the client asks for a test.
pub(crate) const DIAL_REQUEST: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-request");

/// On the connection that the server dials: it says the client's nonce.
pub(crate) const DIAL_BACK: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-back");

/// Longest message: 4,096 bytes of data, and what is around them.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4104;

/// What a server may ask for before it dials another host than the client's, in bytes. It costs the client more than
/// that host: nobody aims servers at others to multiply what it sends.
pub(crate) const DATA_BYTES: std::ops::RangeInclusive<u64> = 30_000..=100_000;

/// Bytes of data in one message of ours.
pub(crate) const DATA_CHUNK: usize = 4000;

/// What is said on a substream of [`DIAL_REQUEST`]: one of these.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Words {
    #[prost(message, optional, tag = "1")]
    pub(crate) request: Option<DialRequest>,
    #[prost(message, optional, tag = "2")]
    pub(crate) response: Option<DialResponse>,
    #[prost(message, optional, tag = "3")]
    pub(crate) data_request: Option<DataRequest>,
    #[prost(message, optional, tag = "4")]
    pub(crate) data: Option<Data>,
}

/// Dial the first of these that you are willing to, and say the nonce there.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DialRequest {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(crate) addrs: Vec<Vec<u8>>,
    #[prost(fixed64, tag = "2")]
    pub(crate) nonce: u64,
}

/// Send so many bytes first.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct DataRequest {
    /// Of the address that would be dialled.
    #[prost(uint32, tag = "1")]
    pub(crate) addr_index: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) bytes: u64,
}

/// Some of them.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Data {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) data: Vec<u8>,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct DialResponse {
    #[prost(enumeration = "Status", tag = "1")]
    pub(crate) status: i32,
    #[prost(uint32, tag = "2")]
    pub(crate) addr_index: u32,
    #[prost(enumeration = "DialStatus", tag = "3")]
    pub(crate) dial_status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Status {
    InternalError = 0,
    /// Not now: a limit is reached.
    Rejected = 100,
    /// None of the addresses is dialled.
    DialRefused = 101,
    Ok = 200,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum DialStatus {
    Unused = 0,
    DialError = 100,
    /// The address was reached, but the nonce could not be said there.
    DialBackError = 101,
    Ok = 200,
}

/// The server's only message on a substream of [`DIAL_BACK`].
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct DialBack {
    #[prost(fixed64, tag = "1")]
    pub(crate) nonce: u64,
}

/// The client's answer: it knows the nonce. There is no other.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct DialBackResponse {
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
}

impl Words {
    pub(crate) fn request(address: &Multiaddr, nonce: u64) -> Self {
        let request = DialRequest { addrs: vec![address.to_vec()], nonce };
        Self { request: Some(request), ..Self::default() }
    }

    pub(crate) fn response(response: DialResponse) -> Self {
        Self { response: Some(response), ..Self::default() }
    }

    pub(crate) fn data_request(addr_index: u32, bytes: u64) -> Self {
        Self { data_request: Some(DataRequest { addr_index, bytes }), ..Self::default() }
    }

    pub(crate) fn data(bytes: usize) -> Self {
        Self { data: Some(Data { data: vec![0; bytes] }), ..Self::default() }
    }
}

impl DialResponse {
    /// Nothing was dialled.
    pub(crate) fn none(status: Status) -> Self {
        Self { status: status as i32, addr_index: 0, dial_status: DialStatus::Unused as i32 }
    }

    pub(crate) fn dialled(addr_index: u32, dial_status: DialStatus) -> Self {
        Self { status: Status::Ok as i32, addr_index, dial_status: dial_status as i32 }
    }
}
