//! The handshake of TLS, by rustls, up to the keys for [`Records`].

use std::{io, sync::Arc};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use futures_rustls::rustls::{
    self, ClientConfig, ExtractedSecrets, InvalidMessage, ServerConfig, SupportedCipherSuite,
    client::{ClientConnectionData, UnbufferedClientConnection},
    kernel::KernelConnection,
    pki_types::ServerName,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};

use super::records::{HEAD_BYTES, NextKeys, RECORD_BYTES_MAX, Records};
use crate::net::lent::ReadAhead;

/// One end of a handshake.
trait Handshake {
    type Data: Send;

    fn step<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn is_over(&self) -> bool;

    fn keys(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), rustls::Error>;
}

impl Handshake for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn step<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn is_over(&self) -> bool {
        !self.is_handshaking()
    }

    fn keys(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), rustls::Error> {
        self.dangerous_into_kernel_connection()
    }
}

impl Handshake for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn step<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn is_over(&self) -> bool {
        !self.is_handshaking()
    }

    fn keys(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), rustls::Error> {
        self.dangerous_into_kernel_connection()
    }
}

pub(super) async fn connect<C>(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    socket: ReadAhead<C>,
) -> io::Result<Records<C>>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    finish(UnbufferedClientConnection::new(config, name).map_err(invalid)?, socket).await
}

pub(super) async fn accept<C>(config: Arc<ServerConfig>, socket: ReadAhead<C>) -> io::Result<Records<C>>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    finish(UnbufferedServerConnection::new(config).map_err(invalid)?, socket).await
}

/// What the handshake wants next.
enum Next {
    Step,
    Send,
    Receive,
    Done,
}

/// Records are handed to rustls one at a time, so that none of what comes after the handshake is.
async fn finish<H, C>(mut tls: H, mut socket: ReadAhead<C>) -> io::Result<Records<C>>
where
    H: Handshake,
    NextKeysOf<H>: NextKeys + 'static,
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (mut received, mut said) = (Vec::new(), Vec::new());
    loop {
        let UnbufferedStatus { discard, state } = tls.step(&mut received);
        let next = match state {
            Ok(ConnectionState::EncodeTlsData(piece)) => say(piece, &mut said).map(|()| Next::Step)?,
            Ok(ConnectionState::TransmitTlsData(transmit)) => {
                transmit.done();
                Next::Send
            }
            Ok(ConnectionState::BlockedHandshake) => Next::Receive,
            Ok(ConnectionState::WriteTraffic(_)) => Next::Done,
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // Data before the end of the handshake, which nobody agreed to.
            Ok(_) => return Err(invalid(rustls::Error::HandshakeNotComplete)),
            Err(error) => {
                received.drain(..discard);
                tell_why(&mut tls, &mut received, &mut socket).await;
                return Err(invalid(error));
            }
        };
        received.drain(..discard);
        match next {
            Next::Step => {}
            Next::Send => send(&mut said, &mut socket).await?,
            Next::Done if tls.is_over() => break,
            Next::Receive | Next::Done => receive(&mut received, &mut socket).await?,
        }
    }
    let (secrets, next) = tls.keys().map_err(invalid)?;
    let SupportedCipherSuite::Tls13(suite) = next.negotiated_cipher_suite() else {
        return Err(invalid(rustls::PeerIncompatible::Tls12NotOffered.into()));
    };
    let limit = suite.common.confidentiality_limit;
    Records::new(socket, secrets, limit, Box::new(next)).map_err(invalid)
}

type NextKeysOf<H> = KernelConnection<<H as Handshake>::Data>;

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn say<D>(mut piece: EncodeTlsData<'_, D>, said: &mut Vec<u8>) -> io::Result<()> {
    let from = said.len();
    loop {
        match piece.encode(&mut said[from..]) {
            Ok(_) => return Ok(()),
            Err(EncodeError::InsufficientSize(needed)) => said.resize(from + needed.required_size, 0),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

async fn send<C>(said: &mut Vec<u8>, socket: &mut ReadAhead<C>) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    socket.write_all(said).await?;
    said.clear();
    socket.flush().await
}

/// One record.
async fn receive<C>(received: &mut Vec<u8>, socket: &mut ReadAhead<C>) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = [0; HEAD_BYTES];
    socket.read_exact(&mut head).await?;
    let bytes = usize::from(u16::from_be_bytes([head[3], head[4]]));
    if HEAD_BYTES + bytes > RECORD_BYTES_MAX {
        return Err(invalid(InvalidMessage::MessageTooLarge.into()));
    }
    received.extend_from_slice(&head);
    let from = received.len();
    received.resize(from + bytes, 0);
    socket.read_exact(&mut received[from..]).await
}

/// The handshake failed here: the peer hears why, if it listens.
async fn tell_why<H, C>(tls: &mut H, received: &mut [u8], socket: &mut ReadAhead<C>)
where
    H: Handshake,
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut said = Vec::new();
    if let Ok(ConnectionState::EncodeTlsData(piece)) = tls.step(received).state
        && say(piece, &mut said).is_ok()
        && let Err(error) = send(&mut said, socket).await
    {
        tracing::debug!(%error, "the peer does not hear why its handshake failed");
    }
}
