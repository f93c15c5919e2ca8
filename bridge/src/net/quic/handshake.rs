//! Connections that come about.

use std::{future::poll_fn, net::SocketAddr, sync::Arc, time::Duration};

use libp2p::PeerId;
use quinn_proto::Incoming;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{Config, Connection, Error, link::Held, socket::Endpoint};
use crate::net::{secure::Verifier, watched::Watched};

/// From the first packet to the last of a handshake, with packets that are lost and sent again.
const DEADLINE: Duration = Duration::from_secs(5);

/// The specification has no name of a server be sent; for an address, none is.
const NOBODY: &str = "0.0.0.0";

pub(super) async fn dial(
    config: Arc<Config>,
    endpoint: Endpoint,
    remote: SocketAddr,
) -> Result<(PeerId, Connection), Error> {
    let (client, verifier) = config.client(remote.ip())?;
    let link = endpoint.connect(client, remote, NOBODY)?;
    finished(Held::new(link), verifier, &config.watched).await
}

/// A handshake that has begun. One with whoever has not proved its address holds a permit.
pub(super) struct Begun {
    held: Arc<Held>,
    verifier: Arc<Verifier>,
    watched: Watched,
    permit: Option<OwnedSemaphorePermit>,
}

/// Takes who comes in. None if it has to come again and prove its address first.
pub(super) fn accept(
    config: &Config,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Option<Begun>, Error> {
    let permit = match incoming.remote_address_validated() {
        true => None,
        false => match Arc::clone(&config.unproved).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                endpoint.retry(incoming);
                return Ok(None);
            }
        },
    };
    let (server, verifier) = config.server(incoming.remote_address().ip())?;
    let held = Held::new(endpoint.accept(incoming, server)?);
    Ok(Some(Begun { held, verifier, watched: config.watched.clone(), permit }))
}

impl Begun {
    pub(super) async fn finished(self) -> Result<(PeerId, Connection), Error> {
        let finished = finished(self.held, self.verifier, &self.watched).await;
        drop(self.permit);
        finished
    }
}

async fn finished(
    held: Arc<Held>,
    verifier: Arc<Verifier>,
    watched: &Watched,
) -> Result<(PeerId, Connection), Error> {
    let connected = poll_fn(|cx| held.link().poll_connected(cx));
    timeout(DEADLINE, connected).await.map_err(|_| Error::Late)?.map_err(Error::Connection)?;
    let peer = verifier.peer().map_err(Error::Unknown)?;
    held.link().is_of(peer, watched.clone());
    Ok((peer, Connection::new(held)))
}
