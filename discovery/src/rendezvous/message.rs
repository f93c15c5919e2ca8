//! What is said: the messages of libp2p's specification (`rendezvous/README.md` in libp2p/specs), each with its length before
//! it. Whoever sends one is a stranger: what is longer than its limit, or makes no sense, is an error.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{PeerRecord, SignedEnvelope},
    request_response::Codec,
};
use prost::Message as _;

/// What both ends speak.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/rendezvous/1.0.0");

/// Bytes of a namespace (the specification).
pub(crate) const NAMESPACE_BYTES_MAX: usize = 255;

/// Bytes of a signed record: 16 addresses of 100 bytes, and a key.
pub(crate) const RECORD_BYTES_MAX: usize = 2048;

/// Bytes of a request: one record and one namespace.
const REQUEST_BYTES_MAX: usize = 4096;

/// Bytes of an answer: as many records as are asked for at once, and their namespaces.
const RESPONSE_BYTES_MAX: usize = 256 * 1024;

/// Addresses taken from one record.
const ADDRESSES_MAX: usize = 16;

/// Where somebody is, as it signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) peer: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
    /// All of it, as it came.
    pub(crate) bytes: Vec<u8>,
}

impl Signed {
    /// None if it is too long, or not signed by whom it names.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > RECORD_BYTES_MAX {
            return None;
        }
        let envelope = SignedEnvelope::from_protobuf_encoding(bytes).ok()?;
        // Rust's libp2p and the others sign it under different names.
        let record = PeerRecord::from_signed_envelope(envelope.clone())
            .or_else(|_| PeerRecord::from_signed_envelope_interop(envelope))
            .ok()?;
        let addresses = record.addresses().iter().take(ADDRESSES_MAX).cloned().collect();
        Some(Self { peer: record.peer_id(), addresses, bytes: bytes.to_vec() })
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Whoever asks is in this namespace, for so many seconds.
    Register { namespace: String, signed: Vec<u8>, seconds: Option<u64> },
    /// It is not any more. There is no answer.
    Unregister { namespace: String },
    /// Who is in a namespace, beyond those of an earlier answer?
    Discover { namespace: String, cookie: Vec<u8>, limit: Option<u64> },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    /// For so many seconds; or why not.
    Registered(Result<u64, Refusal>),
    /// These, and what to ask with the next time; or why not.
    Discovered(Result<(Vec<Registration>, Vec<u8>), Refusal>),
}

/// One of those who are in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) namespace: String,
    pub(crate) signed: Vec<u8>,
    pub(crate) seconds: u64,
}

/// Why not, by the specification's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Refusal {
    /// It is none.
    Ok = 0,
    /// No namespace, or too long a one.
    Namespace = 100,
    /// It is not signed, or too long.
    Record = 101,
    /// Too short or too long a time.
    Time = 102,
    /// Of another answer than an earlier one of this node.
    Cookie = 103,
    /// It is about somebody else.
    Authority = 200,
    /// Something else.
    Internal = 300,
    /// There is no room.
    Room = 400,
}

mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Message {
        #[prost(int32, optional, tag = "1")]
        pub(super) kind: Option<i32>,
        #[prost(message, optional, tag = "2")]
        pub(super) register: Option<Register>,
        #[prost(message, optional, tag = "3")]
        pub(super) registered: Option<Registered>,
        #[prost(message, optional, tag = "4")]
        pub(super) unregister: Option<Unregister>,
        #[prost(message, optional, tag = "5")]
        pub(super) discover: Option<Discover>,
        #[prost(message, optional, tag = "6")]
        pub(super) discovered: Option<Discovered>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Register {
        #[prost(string, optional, tag = "1")]
        pub(super) namespace: Option<String>,
        #[prost(bytes = "vec", optional, tag = "2")]
        pub(super) signed: Option<Vec<u8>>,
        #[prost(uint64, optional, tag = "3")]
        pub(super) seconds: Option<u64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Registered {
        #[prost(int32, optional, tag = "1")]
        pub(super) status: Option<i32>,
        #[prost(string, optional, tag = "2")]
        pub(super) text: Option<String>,
        #[prost(uint64, optional, tag = "3")]
        pub(super) seconds: Option<u64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Unregister {
        #[prost(string, optional, tag = "1")]
        pub(super) namespace: Option<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Discover {
        #[prost(string, optional, tag = "1")]
        pub(super) namespace: Option<String>,
        #[prost(uint64, optional, tag = "2")]
        pub(super) limit: Option<u64>,
        #[prost(bytes = "vec", optional, tag = "3")]
        pub(super) cookie: Option<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Discovered {
        #[prost(message, repeated, tag = "1")]
        pub(super) registrations: Vec<Register>,
        #[prost(bytes = "vec", optional, tag = "2")]
        pub(super) cookie: Option<Vec<u8>>,
        #[prost(int32, optional, tag = "3")]
        pub(super) status: Option<i32>,
        #[prost(string, optional, tag = "4")]
        pub(super) text: Option<String>,
    }
}

/// The numbers of the kinds of messages.
const REGISTER: i32 = 0;
const REGISTERED: i32 = 1;
const UNREGISTER: i32 = 2;
const DISCOVER: i32 = 3;
const DISCOVERED: i32 = 4;

impl From<Request> for wire::Message {
    fn from(request: Request) -> Self {
        let empty = Self::default();
        match request {
            Request::Register { namespace, signed, seconds } => {
                let register =
                    wire::Register { namespace: Some(namespace), signed: Some(signed), seconds };
                Self { kind: Some(REGISTER), register: Some(register), ..empty }
            }
            Request::Unregister { namespace } => {
                let unregister = wire::Unregister { namespace: Some(namespace) };
                Self { kind: Some(UNREGISTER), unregister: Some(unregister), ..empty }
            }
            Request::Discover { namespace, cookie, limit } => {
                let cookie = Some(cookie).filter(|cookie| !cookie.is_empty());
                let discover = wire::Discover { namespace: Some(namespace), limit, cookie };
                Self { kind: Some(DISCOVER), discover: Some(discover), ..empty }
            }
        }
    }
}

impl From<Response> for wire::Message {
    fn from(response: Response) -> Self {
        let empty = Self::default();
        match response {
            Response::Registered(result) => {
                let (status, seconds) = (status(&result), result.ok());
                let registered = wire::Registered { status, text: None, seconds };
                Self { kind: Some(REGISTERED), registered: Some(registered), ..empty }
            }
            Response::Discovered(result) => {
                let status = status(&result);
                let (registrations, cookie) = result.map_or((Vec::new(), None), |(found, cookie)| {
                    let register = |found: Registration| wire::Register {
                        namespace: Some(found.namespace),
                        signed: Some(found.signed),
                        seconds: Some(found.seconds),
                    };
                    (found.into_iter().map(register).collect(), Some(cookie))
                });
                let discovered = wire::Discovered { registrations, cookie, status, text: None };
                Self { kind: Some(DISCOVERED), discovered: Some(discovered), ..empty }
            }
        }
    }
}

fn status<T>(result: &Result<T, Refusal>) -> Option<i32> {
    Some(result.as_ref().err().copied().unwrap_or(Refusal::Ok) as i32)
}

/// Nothing is said of a status where all went well, by some.
fn refusal(status: Option<i32>) -> Option<Refusal> {
    let refusal = Refusal::try_from(status.unwrap_or_default()).unwrap_or(Refusal::Internal);
    (refusal != Refusal::Ok).then_some(refusal)
}

fn request(message: wire::Message) -> Option<Request> {
    match message.kind? {
        REGISTER => {
            let wire::Register { namespace, signed, seconds } = message.register?;
            Some(Request::Register { namespace: namespace?, signed: signed?, seconds })
        }
        UNREGISTER => Some(Request::Unregister { namespace: message.unregister?.namespace? }),
        DISCOVER => {
            let wire::Discover { namespace, limit, cookie } = message.discover?;
            let (namespace, cookie) = (namespace.unwrap_or_default(), cookie.unwrap_or_default());
            Some(Request::Discover { namespace, cookie, limit })
        }
        _ => None,
    }
}

fn response(message: wire::Message) -> Option<Response> {
    match message.kind? {
        REGISTERED => {
            let wire::Registered { status, seconds, .. } = message.registered?;
            let result = refusal(status).map_or_else(|| Ok(seconds.unwrap_or_default()), Err);
            Some(Response::Registered(result))
        }
        DISCOVERED => {
            let wire::Discovered { registrations, cookie, status, .. } = message.discovered?;
            if let Some(refusal) = refusal(status) {
                return Some(Response::Discovered(Err(refusal)));
            }
            let registration = |found: wire::Register| {
                Some(Registration {
                    namespace: found.namespace?,
                    signed: found.signed?,
                    seconds: found.seconds.unwrap_or_default(),
                })
            };
            let registrations = registrations.into_iter().filter_map(registration).collect();
            Some(Response::Discovered(Ok((registrations, cookie.unwrap_or_default()))))
        }
        _ => None,
    }
}

/// Reads and writes them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Messages;

impl Codec for Messages {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Response;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        request(read(io, REQUEST_BYTES_MAX).await?).ok_or_else(nonsense)
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        response(read(io, RESPONSE_BYTES_MAX).await?).ok_or_else(nonsense)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, say: Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&wire::Message::from(say).encode_length_delimited_to_vec()).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        say: Response,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&wire::Message::from(say).encode_length_delimited_to_vec()).await
    }
}

/// Its length comes first, seven bits a byte, the lowest first.
async fn read(io: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<wire::Message> {
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
        if shift > 21 {
            return Err(too_long(limit));
        }
    }
    if length > limit {
        return Err(too_long(limit));
    }
    let mut bytes = vec![0; length];
    io.read_exact(&mut bytes).await?;
    wire::Message::decode(&bytes[..]).map_err(|_| nonsense())
}

fn too_long(limit: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a message has more than {limit} bytes"))
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message makes no sense")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::{FutureExt as _, io::Cursor};
    use libp2p::identity::Keypair;

    use super::*;

    fn register(bytes: usize) -> Request {
        Request::Register { namespace: "n".into(), signed: vec![7; bytes], seconds: Some(7200) }
    }

    fn written(say: Request) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let wrote = Messages.write_request(&PROTOCOL, &mut bytes, say).now_or_never();
        wrote.unwrap().unwrap();
        bytes.into_inner()
    }

    fn read_back(bytes: &[u8]) -> io::Result<Request> {
        Messages.read_request(&PROTOCOL, &mut Cursor::new(bytes)).now_or_never().unwrap()
    }

    #[test]
    fn what_is_asked_and_answered_is_read_as_it_was_written() {
        for say in [
            register(300),
            Request::Unregister { namespace: "n".into() },
            Request::Discover { namespace: "n".into(), cookie: vec![1, 2], limit: Some(3) },
        ] {
            assert_eq!(read_back(&written(say.clone())).unwrap(), say);
        }
        let found = Registration { namespace: "n".into(), signed: vec![1], seconds: 60 };
        for say in [
            Response::Registered(Ok(7200)),
            Response::Registered(Err(Refusal::Room)),
            Response::Discovered(Ok((vec![found], vec![9; 9]))),
            Response::Discovered(Err(Refusal::Cookie)),
        ] {
            let message = wire::Message::from(say.clone());
            assert_eq!(response(message), Some(say));
        }
    }

    #[test]
    fn what_is_too_long_or_cut_off_or_makes_no_sense_is_an_error() {
        assert!(read_back(&written(register(REQUEST_BYTES_MAX))).is_err());
        assert!(read_back(&[0xff; 8]).is_err(), "a length without an end");
        let whole = written(register(10));
        assert!((0..whole.len()).all(|length| read_back(&whole[..length]).is_err()));
        assert!(read_back(&[2, 0x08, 9]).is_err(), "a kind that there is not");
    }

    #[test]
    fn a_record_is_its_signers_and_no_longer_than_it_may_be() {
        let key = Keypair::generate_ed25519();
        let at = |count: usize| -> Vec<Multiaddr> {
            (1..=count).map(|port| format!("/ip4/203.0.113.7/tcp/{port}").parse().unwrap()).collect()
        };
        let signed = |record: PeerRecord| record.into_signed_envelope().into_protobuf_encoding();
        for record in [PeerRecord::new(&key, at(2)), PeerRecord::new_interop(&key, at(2))] {
            let read = Signed::read(&signed(record.unwrap())).unwrap();
            assert_eq!((read.peer, read.addresses), (key.public().to_peer_id(), at(2)));
        }
        let many = Signed::read(&signed(PeerRecord::new(&key, at(60)).unwrap())).unwrap();
        assert_eq!(many.addresses, at(ADDRESSES_MAX));
        assert_eq!(Signed::read(&signed(PeerRecord::new(&key, at(400)).unwrap())), None);
        let mut forged = signed(PeerRecord::new(&key, at(2)).unwrap());
        let end = forged.len() - 1;
        forged[end] ^= 1;
        assert_eq!(Signed::read(&forged), None);
    }
}
