//! What a running node answers on its control socket, and whoever asks it there.
//!
//! Reading order: `proto/node.proto` is what is said; `service` answers, from what `shape` makes of a node's status, on
//! connections that are `seated`, and `relaying` where the node is a relay; `found` is who was found; `dht` tells of the
//! DHT, `mainline` of the 160-bit network, and `discovery` is what is stored and found there; `health` answers probes; `offers`
//! is what its //! command knows, `reload` reads files again; `asking` finds the socket of a running node and asks.

mod asking;
#[cfg(feature = "kad")]
mod dht;
#[cfg(feature = "kad")]
pub(crate) mod discovery;
mod found;
mod health;
#[cfg(feature = "mainline")]
mod mainline;
mod offers;
mod relaying;
mod reload;
mod seated;
mod service;
mod shape;

use std::{io, path::Path};

use tokio::{net::UnixListener, task::JoinHandle};

use self::proto::node_server;
pub(crate) use self::{
    asking::ask,
    health::Wellness,
    offers::{Board, Forwarded, Offered, Offers, Reread},
    relaying::AnsweringRelay,
    reload::{Files, Keeper, Reloader},
    service::Answering,
};
#[cfg(feature = "kad")]
pub(crate) use self::{
    asking::{AskError, Asked, ask_for_lookups, ask_within},
    dht::AnsweringBootstrap,
    reload::DhtKeeper,
};
use crate::{
    Unusable,
    cli::ControlSocket,
    unix_socket::{self, SocketFile},
};

/// Whoever answers, a node or a relay.
pub(crate) trait Answers: node_server::Node {}

impl<N: node_server::Node> Answers for N {}

/// What is said.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub(crate) mod proto {
    tonic::include_proto!("punchline.v1");

    /// The messages and the service, for reflection and JSON.
    pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/node.bin"));
}

/// The end of the name of a control socket, after that of the identity.
pub(crate) const SUFFIX: &str = ".sock";

/// A socket on which questions wait.
pub(crate) struct Bound(UnixListener, SocketFile);

/// A node that answers questions.
///
/// # Drop
/// Answers no more, and removes the socket.
pub(crate) struct Control {
    answering: JoinHandle<()>,
    _file: SocketFile,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

impl Bound {
    /// Listens. Where the operator did not name the place, a node does without if it cannot be used.
    ///
    /// # Errors
    /// If the place that the operator named cannot be used: [`Unusable`], unless another node answers there.
    pub(crate) async fn new(
        wanted: Option<&ControlSocket>,
        usual: &Path,
    ) -> anyhow::Result<Option<Self>> {
        let path = match wanted {
            Some(ControlSocket::Off) => return Ok(None),
            Some(ControlSocket::At(path)) => path,
            None => usual,
        };
        let cause = match bind(path).await {
            Ok(bound) => return Ok(Some(bound)),
            Err(cause) => cause,
        };
        if wanted.is_none() {
            tracing::warn!(
                "cannot listen on {}: {cause}; so `punchline status` cannot ask this node; name another place with --control",
                path.display()
            );
            return Ok(None);
        }
        let refused = refused(path, &cause);
        match cause.kind() {
            io::ErrorKind::AddrInUse => Err(anyhow::anyhow!(refused.0)),
            _ => Err(refused.into()),
        }
    }

    /// Whether [`Bound::new`] may succeed; leaves no trace. That another node answers there is no matter of settings.
    ///
    /// # Errors
    /// If the place that the operator named cannot be used.
    pub(crate) fn check(wanted: Option<&ControlSocket>) -> Result<(), Unusable> {
        let Some(ControlSocket::At(path)) = wanted else { return Ok(()) };
        unix_socket::check(path).map_err(|cause| refused(path, &cause))
    }

    /// Answers.
    pub(crate) fn serve(self, node: impl node_server::Node, health: Wellness) -> Control {
        let Self(listener, file) = self;
        Control { answering: tokio::spawn(service::serve(listener, node, health)), _file: file }
    }
}

fn refused(path: &Path, cause: &io::Error) -> Unusable {
    let place = path.display();
    let remedy = "name another place with --control PATH, or say --control off";
    Unusable(format!("cannot listen on {place}: {cause}; {remedy}"))
}

/// Questions that wait to be accepted.
const BACKLOG: u32 = 16;

async fn bind(path: &Path) -> io::Result<Bound> {
    match unix_socket::remove_stale(path).await? {
        true => unix_socket::bind(path, BACKLOG).map(|(listener, file)| Bound(listener, file)),
        false => Err(io::Error::other(unix_socket::NO_SOCKET)),
    }
}
