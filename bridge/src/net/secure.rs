//! Who is at the other end of a connection of bytes, and that nobody else reads or changes what goes over it: TLS 1.3, or
//! Noise with peers that know nothing else.

mod doubted;
mod handshake;
mod records;
mod tls;
mod verifier;

use std::{io, sync::Arc};

use futures::{AsyncRead, AsyncWrite, FutureExt, future::BoxFuture, future::Either};
use futures_rustls::rustls::{self, ClientConfig, ServerConfig};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        UpgradeInfo,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    },
    identity::Keypair,
    noise,
};
use multistream_select::NegotiationError;

pub(super) use self::verifier::Verifier;
use self::{doubted::Doubted, records::Records, tls::Tls};
use super::{cause::find_cause, lent::ReadAhead};
use crate::{addr::peer_of, error::StartError};

/// What Noise is called where two ends agree on it.
const NOISE: &str = "/noise";

/// Secures connections as one identity. Clones share what they know of peers.
#[derive(Clone)]
pub(crate) struct Secure {
    tls: Tls,
    noise: noise::Config,
    doubted: Doubted,
}

/// What is proposed to the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proposal {
    /// TLS, whose first message goes along: no answer is waited for.
    Tls,
    /// TLS, or else Noise. It takes a round trip more.
    Any,
}

/// Secures one connection.
pub(crate) struct Upgrade {
    secure: Secure,
    proposal: Proposal,
}

impl Secure {
    pub(crate) fn new(keypair: &Keypair) -> Result<Self, StartError> {
        let noise = noise::Config::new(keypair)
            .map_err(|cause| StartError::Transport { transport: "Noise", cause: cause.into() })?;
        let tls = Tls::new(keypair)
            .map_err(|cause| StartError::Transport { transport: "TLS", cause: cause.into() })?;
        Ok(Self { tls, noise, doubted: Doubted::default() })
    }

    /// What to propose to whoever answers at `address`. Who is not named there may be anybody.
    pub(crate) fn proposal(&self, address: &Multiaddr) -> Proposal {
        match peer_of(address) {
            Some(peer) if !self.doubted.contains(&peer) => Proposal::Tls,
            _ => Proposal::Any,
        }
    }

    /// A connection to `address` failed. Whether it is to be dialled again: only who said that it does not speak TLS is,
    /// since others named many addresses, and not every one is a peer's.
    pub(crate) fn has_to_ask(&self, address: &Multiaddr, proposed: Proposal, error: &io::Error) -> bool {
        let answered = find_cause::<rustls::Error>(error).is_some();
        let Some(peer) = peer_of(address).filter(|_| proposed == Proposal::Tls && !answered) else {
            return false;
        };
        self.doubted.insert(peer);
        matches!(find_cause(error), Some(NegotiationError::Failed))
    }

    /// TLS for one connection of QUIC that comes in, and who is at its other end once the handshake is over.
    pub(super) fn quic_server(&self) -> Result<(Arc<ServerConfig>, Arc<Verifier>), rustls::Error> {
        self.tls.server()
    }

    /// Likewise, for one that is dialled.
    pub(super) fn quic_client(&self) -> Result<(Arc<ClientConfig>, Arc<Verifier>), rustls::Error> {
        self.tls.client()
    }

    pub(crate) fn connection(&self, proposal: Proposal) -> Upgrade {
        Upgrade { secure: self.clone(), proposal }
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
        match self.proposal {
            Proposal::Tls => vec![Protocol::Tls],
            Proposal::Any => vec![Protocol::Tls, Protocol::Noise],
        }
    }
}

/// A connection that is secured.
pub(crate) type Secured<C> = Either<Records<C>, noise::Output<ReadAhead<C>>>;

impl<C> InboundConnectionUpgrade<C> for Upgrade
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, protocol: Protocol) -> Self::Future {
        let socket = ReadAhead::new(socket);
        async move {
            match protocol {
                Protocol::Tls => Ok(self.of_tls(self.secure.tls.accept(socket).await?)),
                Protocol::Noise => {
                    self.of_noise(self.secure.noise.clone().upgrade_inbound(socket, NOISE).await)
                }
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
        let socket = ReadAhead::new(socket);
        async move {
            match protocol {
                Protocol::Tls => Ok(self.of_tls(self.secure.tls.connect(socket).await?)),
                Protocol::Noise => {
                    self.of_noise(self.secure.noise.clone().upgrade_outbound(socket, NOISE).await)
                }
            }
        }
        .boxed()
    }
}

impl Upgrade {
    /// The peer speaks TLS.
    fn of_tls<C>(&self, (peer, stream): (PeerId, Records<C>)) -> (PeerId, Secured<C>) {
        self.secure.doubted.remove(&peer);
        (peer, Either::Left(stream))
    }

    /// The peer may speak nothing else.
    fn of_noise<C>(
        &self,
        secured: Result<(PeerId, noise::Output<ReadAhead<C>>), noise::Error>,
    ) -> io::Result<(PeerId, Secured<C>)> {
        let (peer, stream) = secured.map_err(|error| match error {
            noise::Error::Io(error) => error,
            error => io::Error::new(io::ErrorKind::InvalidData, error),
        })?;
        self.secure.doubted.insert(peer);
        Ok((peer, Either::Right(stream)))
    }
}

#[cfg(test)]
mod tests;
