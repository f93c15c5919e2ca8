//! Who is at the other end of a connection of bytes, and that nobody else reads or changes what goes over it: TLS 1.3, or
//! Noise with peers that know nothing else.

mod known;
mod tls;

use std::io;

use futures::{AsyncRead, AsyncWrite, FutureExt, future::BoxFuture, future::Either, io::BufReader};
use libp2p::{
    PeerId,
    core::{
        ConnectedPoint, UpgradeInfo,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    },
    identity::Keypair,
    noise,
};

use self::{known::Known, tls::Tls};
use crate::{addr::peer_of, error::StartError};

/// How much is read from the system at once. TLS and Noise read a few KiB at a time by themselves.
const READ_BYTES: usize = 64 << 10;

/// What Noise is called where two ends agree on it.
const NOISE: &str = "/noise";

/// Secures connections as one identity. Clones share what they know of peers.
#[derive(Clone)]
pub(crate) struct Secure {
    tls: Tls,
    noise: noise::Config,
    known: Known,
}

/// Secures one connection.
pub(crate) struct Upgrade {
    secure: Secure,
    /// Who is dialled, if that peer is known to speak TLS: then nothing else is proposed, and its answer not waited for.
    known: Option<PeerId>,
}

impl Secure {
    pub(crate) fn new(keypair: &Keypair) -> Result<Self, StartError> {
        let noise = noise::Config::new(keypair)
            .map_err(|cause| StartError::Transport { transport: "Noise", cause: cause.into() })?;
        let tls = Tls::new(keypair)
            .map_err(|cause| StartError::Transport { transport: "TLS", cause: cause.into() })?;
        Ok(Self { tls, noise, known: Known::default() })
    }

    /// For a connection that `point` is an end of.
    pub(crate) fn connection(&self, point: &ConnectedPoint) -> Upgrade {
        let dialled = match point {
            ConnectedPoint::Dialer { address, .. } => peer_of(address),
            ConnectedPoint::Listener { .. } => None,
        };
        Upgrade { secure: self.clone(), known: dialled.filter(|peer| self.known.contains(peer)) }
    }
}

/// How two ends secure their connection. The dialler proposes them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tls,
    Noise,
}

impl AsRef<str> for Protocol {
    fn as_ref(&self) -> &str {
        match self {
            Self::Tls => "/tls/1.0.0",
            Self::Noise => NOISE,
        }
    }
}

impl UpgradeInfo for Upgrade {
    type Info = Protocol;
    type InfoIter = Vec<Protocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        match self.known {
            Some(_) => vec![Protocol::Tls],
            None => vec![Protocol::Tls, Protocol::Noise],
        }
    }
}

/// A connection that is secured.
pub(crate) type Secured<C> = Either<tls::Stream<BufReader<C>>, noise::Output<BufReader<C>>>;

impl<C> InboundConnectionUpgrade<C> for Upgrade
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, protocol: Protocol) -> Self::Future {
        let socket = BufReader::with_capacity(READ_BYTES, socket);
        async move {
            match protocol {
                Protocol::Tls => self.of_tls(self.secure.tls.accept(socket).await),
                Protocol::Noise => {
                    of_noise(self.secure.noise.clone().upgrade_inbound(socket, NOISE).await)
                },
            }
        }
        .boxed()
    }
}

impl<C> OutboundConnectionUpgrade<C> for Upgrade
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, protocol: Protocol) -> Self::Future {
        let socket = BufReader::with_capacity(READ_BYTES, socket);
        async move {
            match protocol {
                Protocol::Tls => self.of_tls(self.secure.tls.connect(socket).await),
                Protocol::Noise => {
                    of_noise(self.secure.noise.clone().upgrade_outbound(socket, NOISE).await)
                },
            }
        }
        .boxed()
    }
}

impl Upgrade {
    /// Learns whether the peer speaks TLS.
    fn of_tls<C>(
        &self,
        secured: io::Result<(PeerId, tls::Stream<BufReader<C>>)>,
    ) -> io::Result<(PeerId, Secured<C>)> {
        match secured {
            Ok((peer, stream)) => {
                self.secure.known.insert(peer);
                Ok((peer, Either::Left(stream)))
            }
            Err(error) => {
                // It may be another program under the same identity, which knows Noise alone.
                self.known.iter().for_each(|peer| self.secure.known.remove(peer));
                Err(error)
            }
        }
    }
}

fn of_noise<C>(
    secured: Result<(PeerId, noise::Output<BufReader<C>>), noise::Error>,
) -> io::Result<(PeerId, Secured<C>)> {
    match secured {
        Ok((peer, stream)) => Ok((peer, Either::Right(stream))),
        Err(noise::Error::Io(error)) => Err(error),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

#[cfg(test)]
mod tests;
