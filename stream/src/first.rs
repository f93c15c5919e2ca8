//! The first frame on a leg: says which stream it is for.

use std::io;

use futures::io::{AsyncRead, AsyncReadExt as _};

use super::frame::{Decoder, Frame, FrameError, Item, Kind};

/// What is read at a time, at most.
const READ_BYTES: usize = 128;

/// Why there is no first frame.
#[derive(Debug, thiserror::Error)]
pub enum FirstError {
    /// The substream failed or ended before it was whole.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is no frame.
    #[error(transparent)]
    Malformed(#[from] FrameError),
    /// Payload of nothing.
    #[error("a substream does not begin with {:?}", Kind::Data)]
    Data,
}

/// Reads the first frame of a leg and not a byte more: what follows is for whoever takes the leg.
///
/// # Errors
/// If the pipe fails or ends, or what comes is not a frame, or is DATA.
pub async fn first_frame(io: &mut (impl AsyncRead + Unpin)) -> Result<Frame, FirstError> {
    let (mut decoder, mut buffer) = (Decoder::new(), [0; READ_BYTES]);
    loop {
        let wanted = decoder.missing().min(READ_BYTES);
        let read = io.read(&mut buffer[..wanted]).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match decoder.decode(&mut &buffer[..read])? {
            Some(Item::Frame(frame)) => return Ok(frame),
            _ if decoder.payload().is_some() => return Err(FirstError::Data),
            _ => {}
        }
    }
}
