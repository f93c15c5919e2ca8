//! The first words on a substream: who wants what, and the one-byte answer.
//!
//! ```text
//! opener:   version u8 (0) · stream id, 16 bytes · length of the service's name u8 · name
//! acceptor: 0 accepted · 1 not served · 2 busy · 3 shutting down
//! ```
//! After an accepting answer the substream carries the stream's bytes and nothing else.

use std::io;

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;

use super::StreamId;
use crate::{
    error::Refusal,
    service::{SERVICE_NAME_BYTES_MAX, Service},
};

/// Named on every substream of ours.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new(PROTOCOL_NAME);

/// Its name, for messages.
pub(crate) const PROTOCOL_NAME: &str = "/punchline/stream/0";

const VERSION: u8 = 0;
const FIXED_BYTES: usize = 1 + 16 + 1;

/// What the opener says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) stream: StreamId,
    pub(crate) service: Service,
}

/// Why the first words could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("version {0} is not spoken here")]
    Version(u8),
    #[error("the service's name is malformed")]
    Service,
    #[error("{0} is not an answer")]
    Answer(u8),
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Hello {
    pub(crate) async fn write(&self, io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let name = self.service.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(FIXED_BYTES + name.len());
        bytes.push(VERSION);
        bytes.extend(self.stream.to_bytes());
        bytes.push(name.len() as u8);
        bytes.extend(name);
        io.write_all(&bytes).await?;
        io.flush().await
    }

    pub(crate) async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Self, HelloError> {
        let mut fixed = [0; FIXED_BYTES];
        io.read_exact(&mut fixed).await?;
        let [version, id @ .., length] = fixed;
        if version != VERSION {
            return Err(HelloError::Version(version));
        }
        if usize::from(length) > SERVICE_NAME_BYTES_MAX {
            return Err(HelloError::Service);
        }
        let mut name = vec![0; length.into()];
        io.read_exact(&mut name).await?;
        let service = str::from_utf8(&name).ok().and_then(|name| name.parse().ok());
        Ok(Self { stream: StreamId::from_bytes(id), service: service.ok_or(HelloError::Service)? })
    }
}

pub(crate) async fn write_answer(
    io: &mut (impl AsyncWrite + Unpin),
    answer: Result<(), Refusal>,
) -> io::Result<()> {
    let code = match answer {
        Ok(()) => 0,
        Err(Refusal::NotServed) => 1,
        Err(Refusal::Busy) => 2,
        Err(Refusal::Shutdown) => 3,
    };
    io.write_all(&[code]).await?;
    io.flush().await
}

pub(crate) async fn read_answer(io: &mut (impl AsyncRead + Unpin)) -> Result<(), HelloError> {
    let mut code = [0];
    io.read_exact(&mut code).await?;
    match code[0] {
        0 => Ok(()),
        1 => Err(HelloError::Refused(Refusal::NotServed)),
        2 => Err(HelloError::Refused(Refusal::Busy)),
        3 => Err(HelloError::Refused(Refusal::Shutdown)),
        other => Err(HelloError::Answer(other)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::{executor::block_on, io::Cursor};

    use super::*;

    fn encoded(hello: &Hello) -> Vec<u8> {
        let mut bytes = Vec::new();
        block_on(hello.write(&mut bytes)).unwrap();
        bytes
    }

    fn hello() -> Hello {
        Hello { stream: StreamId::from_bytes([7; 16]), service: "kaspa-p2p".parse().unwrap() }
    }

    #[test]
    fn what_is_written_is_read() {
        let read = block_on(Hello::read(&mut Cursor::new(encoded(&hello())))).unwrap();
        assert_eq!(read, hello());
    }

    #[test]
    fn every_truncation_is_an_end_of_file() {
        let bytes = encoded(&hello());
        for end in 0..bytes.len() {
            let error = block_on(Hello::read(&mut Cursor::new(&bytes[..end]))).unwrap_err();
            assert!(matches!(error, HelloError::Io(_)), "{end}: {error}");
        }
    }

    #[test]
    fn a_strange_version_an_oversized_name_and_bytes_that_are_no_name_are_told_apart() {
        let mut version = encoded(&hello());
        version[0] = 9;
        let mut oversized = encoded(&hello());
        oversized[17] = 65;
        let mut binary = encoded(&hello());
        binary[18] = 0xff;
        let read = |bytes| block_on(Hello::read(&mut Cursor::new(bytes))).unwrap_err();
        assert!(matches!(read(version), HelloError::Version(9)));
        assert!(matches!(read(oversized), HelloError::Service));
        assert!(matches!(read(binary), HelloError::Service));
    }

    #[test]
    fn every_answer_survives_the_wire_and_an_unknown_one_is_an_error() {
        for refusal in [Refusal::NotServed, Refusal::Busy, Refusal::Shutdown] {
            let mut bytes = Vec::new();
            block_on(write_answer(&mut bytes, Err(refusal))).unwrap();
            let read = block_on(read_answer(&mut Cursor::new(bytes))).unwrap_err();
            assert!(matches!(read, HelloError::Refused(found) if found == refusal));
        }
        assert!(block_on(read_answer(&mut Cursor::new([0]))).is_ok());
        let unknown = block_on(read_answer(&mut Cursor::new([200]))).unwrap_err();
        assert!(matches!(unknown, HelloError::Answer(200)));
    }
}
