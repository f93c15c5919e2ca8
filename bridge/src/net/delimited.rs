//! Protobuf messages on a substream, each after its length as an unsigned varint: how libp2p's own protocols
//! speak.

use std::io;

use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use prost::Message;

/// Largest message that is read or written, in bytes: what libp2p's relay and hole punching protocols allow.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4096;

/// Reads one message and not a byte more, since what follows may belong to somebody else.
///
/// # Errors
/// If the substream fails or ends, or what comes is too long or no such message.
pub(crate) async fn read<M: Message + Default>(io: &mut (impl AsyncRead + Unpin)) -> io::Result<M> {
    read_up_to(io, MESSAGE_BYTES_MAX).await
}

/// As [`read`], for a protocol that allows messages of another size, below 16 KiB.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_up_to<M: Message + Default>(
    io: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> io::Result<M> {
    let length = length(io).await?;
    if length > max {
        return Err(too_long(length, max));
    }
    let mut bytes = vec![0; length];
    io.read_exact(&mut bytes).await?;
    M::decode(bytes.as_slice()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes one message and flushes.
///
/// # Errors
/// If the message is too long or the substream fails.
pub(crate) async fn write(
    io: &mut (impl AsyncWrite + Unpin),
    message: &(impl Message + Sized),
) -> io::Result<()> {
    let length = message.encoded_len();
    if length > MESSAGE_BYTES_MAX {
        return Err(too_long(length, MESSAGE_BYTES_MAX));
    }
    io.write_all(&message.encode_length_delimited_to_vec()).await?;
    io.flush().await
}

async fn length(io: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
    let mut length = 0;
    // Two groups of seven bits say up to 16,383.
    for shift in [0, 7] {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(length);
        }
    }
    Err(too_long(1 << 14, 1 << 14))
}

fn too_long(length: usize, max: usize) -> io::Error {
    let text = format!("a message of {length} bytes or more; at most {max} are taken");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::io::Cursor;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Sample {
        #[prost(bytes = "vec", tag = "1")]
        bytes: Vec<u8>,
    }

    #[tokio::test]
    async fn a_message_is_read_back_and_what_follows_it_is_left() {
        for size in [0, 1, 120, 200, 4000] {
            let sample = Sample { bytes: vec![7; size] };
            let mut wire = Cursor::new(Vec::new());
            write(&mut wire, &sample).await.unwrap();
            let mut bytes = wire.into_inner();
            bytes.extend(b"rest");
            let mut wire = Cursor::new(bytes);
            assert_eq!(read::<Sample>(&mut wire).await.unwrap(), sample);
            let mut rest = Vec::new();
            wire.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"rest");
        }
    }

    #[tokio::test]
    async fn one_byte_more_than_the_longest_is_refused_at_both_ends() {
        let long = Sample { bytes: vec![7; MESSAGE_BYTES_MAX] };
        assert!(write(&mut Cursor::new(Vec::new()), &long).await.is_err());
        let mut wire = Cursor::new(long.encode_length_delimited_to_vec());
        assert!(read::<Sample>(&mut wire).await.is_err());
        let mut endless = Cursor::new(vec![0xff; 10]);
        assert!(read::<Sample>(&mut endless).await.is_err());
    }
}
