//! A protocol on a substream, or none. Nothing is said while it is agreed on.

use std::{convert::Infallible, future::Ready};

use libp2p::{
    Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
};

/// The protocol that this end takes or opens a substream for.
#[derive(Debug)]
pub(crate) struct Speak(pub(crate) Option<StreamProtocol>);

impl UpgradeInfo for Speak {
    type Info = StreamProtocol;
    type InfoIter = std::option::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Speak {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, io: Stream, _: Self::Info) -> Self::Future {
        std::future::ready(Ok(io))
    }
}

impl OutboundUpgrade<Stream> for Speak {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, io: Stream, _: Self::Info) -> Self::Future {
        std::future::ready(Ok(io))
    }
}
