//! The node's side: answers.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _, stream};
use libp2p::PeerId;
use punchline_bridge::{Endpoint, error::PingError};
use tokio::{
    net::UnixListener,
    sync::{Semaphore, broadcast},
};
use tonic::{Request, Response, Status, transport::Server};

use super::{
    proto::{self, node_server},
    seated::Seated,
    shape,
};
use crate::{report::Reporter, story};

/// Calls on one connection at a time, and connections: whoever can connect owns the node, and yet what loops there should
/// not cost it much. One more waits.
const CALLS_MAX: usize = 16;
const CONNECTIONS_MAX: usize = 64;

const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The node does not answer while a turn of its loop takes so long.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Who answers.
#[derive(Clone)]
pub(crate) struct Answering {
    /// The node.
    pub(crate) endpoint: Endpoint,
    /// The command that runs.
    pub(crate) command: &'static str,
    /// It is to find peers, and is of use once there is one.
    pub(crate) calls: bool,
    /// It was given relays.
    pub(crate) relays: bool,
    /// What happens.
    pub(crate) reporter: Reporter,
}

impl Answering {
    async fn status(&self) -> Result<punchline_bridge::Status, Status> {
        let asked = tokio::time::timeout(ANSWER_DEADLINE, self.endpoint.status()).await;
        let late = || Status::deadline_exceeded("the node is too busy to answer");
        asked.map_err(|_| late())?.ok_or_else(|| Status::unavailable("the node has ended"))
    }

    /// What keeps the node from being usable.
    fn hindrance(&self, status: &punchline_bridge::Status) -> Option<String> {
        let alone = status.peers.is_empty();
        match (self.calls, status.relays.is_empty()) {
            (true, true) if alone => Some("no peer is connected".to_owned()),
            (true, false) if alone => {
                let relay = status.hindrance().map(|why| format!(": {why}")).unwrap_or_default();
                Some(format!("no peer is connected{relay}"))
            }
            (false, true) if self.relays && alone => Some("no relay was dialled yet".to_owned()),
            _ => status.hindrance(),
        }
    }
}

/// Answers whoever connects.
pub(super) async fn serve(listener: UnixListener, node: Answering) {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .build_v1();
    let reflection = match reflection {
        Ok(reflection) => reflection,
        Err(error) => return tracing::error!(%error, "the control service describes itself wrongly"),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let incoming = stream::unfold((listener, places), |(listener, places)| async {
        let place = places.clone().acquire_owned().await.ok()?;
        let accepted = listener.accept().await.map(|(socket, _)| Seated::new(socket, place));
        if accepted.is_err() {
            // The system has no descriptor to spare, and will not for a while.
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        Some((accepted, (listener, places)))
    });
    let router = Server::builder()
        .concurrency_limit_per_connection(CALLS_MAX)
        .max_connection_age(Duration::from_secs(24 * 3600))
        .add_service(reflection)
        .add_service(node_server::NodeServer::new(node));
    if let Err(error) = router.serve_with_incoming(Box::pin(incoming)).await {
        tracing::warn!(%error, "the control socket answers no more");
    }
}

fn peer_id(text: &str) -> Result<PeerId, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("`{text}` is no peer id: {error}")))
}

type Events = Pin<Box<dyn Stream<Item = Result<proto::Event, Status>> + Send>>;

#[tonic::async_trait]
impl node_server::Node for Answering {
    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::Status>, Status> {
        let status = self.status().await?;
        Ok(Response::new(shape::status(&status, self.command, self.hindrance(&status))))
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::Story>, Status> {
        let peer = peer_id(&request.into_inner().peer)?;
        let status = self.status().await?;
        let story = story::tell(peer, &status, &self.reporter.memory(), Instant::now());
        story.map(Response::new).map_err(|unknown| Status::not_found(unknown.to_string()))
    }

    async fn ping(&self, request: Request<proto::PingRequest>) -> Result<Response<proto::Pong>, Status> {
        let peer = peer_id(&request.into_inner().peer)?;
        match self.endpoint.ping(peer).await {
            Ok(pong) => Ok(Response::new(shape::pong(&pong))),
            Err(error @ PingError::NotConnected) => Err(Status::not_found(error.to_string())),
            Err(error @ PingError::Unanswered { .. }) => {
                Err(Status::deadline_exceeded(error.to_string()))
            }
            Err(error @ PingError::Shutdown) => Err(Status::unavailable(error.to_string())),
        }
    }

    type WatchEventsStream = Events;

    async fn watch_events(
        &self,
        request: Request<proto::WatchEventsRequest>,
    ) -> Result<Response<Events>, Status> {
        let (recent, lines) = self.reporter.watch();
        let said = |json: Arc<str>| Ok(proto::Event { json: json.to_string() });
        let recent = stream::iter(recent).map(said);
        if !request.into_inner().follow {
            return Ok(Response::new(recent.boxed()));
        }
        let lines = stream::unfold(lines, |mut lines| async {
            let line = match lines.recv().await {
                Ok(json) => Ok(proto::Event { json: json.to_string() }),
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    Err(Status::data_loss(format!("{count} events came faster than they were read")))
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((line, lines))
        });
        Ok(Response::new(recent.chain(lines).boxed()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use punchline_bridge::{Config, Keypair};
    use tokio::net::UnixStream;

    use super::*;
    use crate::cli::{Asking, ControlSocket};

    #[tokio::test]
    async fn one_connection_more_than_there_may_be_waits_for_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let config = Config { listen, ..Config::default() };
        let (endpoint, _events) = Endpoint::start(config, Keypair::generate_ed25519()).await.unwrap();
        let reporter = Reporter::none();
        let node = Answering { endpoint, command: "server", calls: false, relays: false, reporter };
        let serving = tokio::spawn(serve(UnixListener::bind(&path).unwrap(), node));
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            idle.push(UnixStream::connect(&path).await.unwrap());
        }
        let control = Some(ControlSocket::At(path));
        let mut asker =
            super::super::ask(&Asking { control, node: None, identity: None }).await.unwrap();
        let mut answer = Box::pin(asker.get_status(proto::GetStatusRequest {}));
        let early = tokio::time::timeout(Duration::from_millis(300), &mut answer).await;
        assert!(early.is_err(), "there is no place");
        drop(idle.pop());
        assert!(answer.await.unwrap().into_inner().hindrance.is_none());
        serving.abort();
    }
}
