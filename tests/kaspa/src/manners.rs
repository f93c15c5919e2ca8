//! What a peer says about itself and what it asks of others. The checks, their order and the errors
//! are a stock node's.

use std::net::SocketAddr;

use kaspa_p2p_lib::{
    Hub, Router,
    common::ProtocolError,
    convert::model::version::Version,
    pb::{AddressesMessage, NetAddress, VersionMessage},
};
use uuid::Uuid;

/// How a peer behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    /// The Kaspa id it claims. A stock node draws a new one at every start.
    pub id: Uuid,
    /// The network it claims to be on.
    pub network: String,
    /// The protocol version it claims to speak.
    pub protocol_version: u32,
    /// Where it says that it can be reached.
    pub advertised: Option<SocketAddr>,
    /// The addresses it gives when asked.
    pub addresses: Vec<SocketAddr>,
    /// What it asks of others.
    pub demands: Demands,
}

/// What a peer asks of others. `None` and `false` ask for nothing.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// One connection per id and ip address.
    pub once: bool,
    /// Not to have this id, which is the peer's own.
    pub other_than: Option<Uuid>,
    /// To be on this network.
    pub network: Option<String>,
    /// To speak at least this protocol version.
    pub protocol_version: Option<u32>,
}

impl Manners {
    /// Those of a stock node 2.1.0.
    pub fn stock(network: &str) -> Self {
        let id = Uuid::new_v4();
        Self {
            id,
            network: network.to_owned(),
            protocol_version: 11,
            advertised: None,
            addresses: Vec::new(),
            demands: Demands {
                once: true,
                other_than: Some(id),
                network: Some(network.to_owned()),
                protocol_version: Some(10),
            },
        }
    }

    /// Says what a stock node says, and asks for nothing.
    pub fn tolerant(network: &str) -> Self {
        Self { demands: Demands::none(), ..Self::stock(network) }
    }

    pub(crate) fn version(&self) -> VersionMessage {
        let version = Version::new(
            self.advertised.map(Into::into),
            self.id.into(),
            self.network.clone(),
            None,
            self.protocol_version,
        );
        version.into()
    }

    /// The version to use with a peer that says `theirs`: the lower of the two.
    pub(crate) fn agree(&self, theirs: &Version) -> u32 {
        self.protocol_version.min(theirs.protocol_version)
    }

    pub(crate) fn known_addresses(&self) -> AddressesMessage {
        let known = |address: &SocketAddr| NetAddress::from((address.ip().into(), address.port()));
        AddressesMessage { address_list: self.addresses.iter().map(known).collect() }
    }
}

impl Demands {
    /// Nothing: every peer is welcome.
    pub fn none() -> Self {
        Self::default()
    }

    /// Checks what the peer behind `router`, whose identity is set, says.
    pub(crate) fn check(
        &self,
        router: &Router,
        hub: &Hub,
        theirs: &Version,
    ) -> Result<(), ProtocolError> {
        if self.once && hub.has_peer(router.key()) {
            return Err(ProtocolError::PeerAlreadyExists(router.key()));
        }
        if self.other_than == Some(theirs.id.0) {
            return Err(ProtocolError::LoopbackConnection(router.key()));
        }
        if let Some(ours) = self.network.as_ref().filter(|ours| **ours != theirs.network) {
            return Err(ProtocolError::WrongNetwork(ours.clone(), theirs.network.clone()));
        }
        match self.protocol_version {
            Some(ours) if theirs.protocol_version < ours => {
                Err(ProtocolError::VersionMismatch(ours, theirs.protocol_version))
            }
            _ => Ok(()),
        }
    }
}
