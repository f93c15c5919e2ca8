//! Who is at the other end of a connection of bytes, and that nobody else reads or changes what goes over it: TLS 1.3, or
//! Noise with peers that know nothing else.

mod tls;

use std::io;

use futures::{AsyncRead, AsyncWrite, FutureExt, future::BoxFuture, future::Either, io::BufReader};
use libp2p::{
    PeerId,
    core::{
        UpgradeInfo,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    },
    identity::Keypair,
    noise,
};

use self::tls::Tls;
use super::cause::Kept;
use crate::error::StartError;

/// How much is read from the system at once. TLS and Noise read a few KiB at a time by themselves.
const READ_BYTES: usize = 64 << 10;

/// What Noise is called where two ends agree on it.
const NOISE: &str = "/noise";

/// Secures connections as one identity.
#[derive(Clone)]
pub(crate) struct Secure {
    tls: Tls,
    noise: noise::Config,
}

impl Secure {
    pub(crate) fn new(keypair: &Keypair) -> Result<Self, StartError> {
        let noise = noise::Config::new(keypair)
            .map_err(|cause| StartError::Transport { transport: "Noise", cause: cause.into() })?;
        let tls = Tls::new(keypair)
            .map_err(|cause| StartError::Transport { transport: "TLS", cause: cause.into() })?;
        Ok(Self { tls, noise })
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

impl UpgradeInfo for Secure {
    type Info = Protocol;
    type InfoIter = [Protocol; 2];

    fn protocol_info(&self) -> Self::InfoIter {
        [Protocol::Tls, Protocol::Noise]
    }
}

/// A connection that is secured.
pub(crate) type Secured<C> = Either<tls::Stream<BufReader<C>>, noise::Output<BufReader<C>>>;

/// How it fails.
type Failed = Kept<io::Error>;

impl<C> InboundConnectionUpgrade<C> for Secure
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, protocol: Protocol) -> Self::Future {
        let socket = BufReader::with_capacity(READ_BYTES, socket);
        async move {
            match protocol {
                Protocol::Tls => {
                    self.tls.accept(socket).await.map(|(peer, stream)| (peer, Either::Left(stream)))
                }
                Protocol::Noise => of_noise(self.noise.upgrade_inbound(socket, NOISE).await),
            }
            .map_err(Kept)
        }
        .boxed()
    }
}

impl<C> OutboundConnectionUpgrade<C> for Secure
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, protocol: Protocol) -> Self::Future {
        let socket = BufReader::with_capacity(READ_BYTES, socket);
        async move {
            match protocol {
                Protocol::Tls => {
                    self.tls.connect(socket).await.map(|(peer, stream)| (peer, Either::Left(stream)))
                }
                Protocol::Noise => of_noise(self.noise.upgrade_outbound(socket, NOISE).await),
            }
            .map_err(Kept)
        }
        .boxed()
    }
}

fn of_noise<C>(
    upgraded: Result<(PeerId, noise::Output<BufReader<C>>), noise::Error>,
) -> io::Result<(PeerId, Secured<C>)> {
    let (peer, stream) = upgraded.map_err(|error| match error {
        noise::Error::Io(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    })?;
    Ok((peer, Either::Right(stream)))
}
