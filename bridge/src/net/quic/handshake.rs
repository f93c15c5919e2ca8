//! Connections that come about.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use libp2p::PeerId;
use quinn::{Connecting, Endpoint, Incoming};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{Config, Connection, Error};
use crate::net::secure::Verifier;

/// From the first packet to the last of a handshake, with packets that are lost and sent again.
const DEADLINE: Duration = Duration::from_secs(5);

/// The specification has no name of a server be sent; for an address, none is.
const NOBODY: &str = "0.0.0.0";

pub(super) async fn dial(
    config: Arc<Config>,
    endpoint: Endpoint,
    remote: SocketAddr,
) -> Result<(PeerId, Connection), Error> {
    let (client, verifier) = config.client()?;
    let connecting = endpoint.connect_with(client, remote, NOBODY).map_err(Error::Connect)?;
    finished(connecting, verifier).await
}

/// A handshake that has begun. One with whoever has not proved its address holds a permit.
pub(super) struct Begun {
    connecting: Connecting,
    verifier: Arc<Verifier>,
    permit: Option<OwnedSemaphorePermit>,
}

/// Takes who comes in. None if it has to come again and prove its address first.
pub(super) fn accept(config: &Config, incoming: Incoming) -> Result<Option<Begun>, Error> {
    let permit = match incoming.remote_address_validated() {
        true => None,
        false => match Arc::clone(&config.unproved).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                // Who cannot be told to come again is refused, as the error is dropped.
                let _ = incoming.retry();
                return Ok(None);
            }
        },
    };
    let (server, verifier) = config.server()?;
    let connecting = incoming.accept_with(server).map_err(Error::Connection)?;
    Ok(Some(Begun { connecting, verifier, permit }))
}

impl Begun {
    pub(super) async fn finished(self) -> Result<(PeerId, Connection), Error> {
        let finished = finished(self.connecting, self.verifier).await;
        drop(self.permit);
        finished
    }
}

async fn finished(
    connecting: Connecting,
    verifier: Arc<Verifier>,
) -> Result<(PeerId, Connection), Error> {
    let connected = timeout(DEADLINE, connecting).await.map_err(|_| Error::Late)?;
    let connection = connected.map_err(Error::Connection)?;
    let peer = verifier.peer().map_err(Error::Unknown)?;
    Ok((peer, Connection::new(connection)))
}
