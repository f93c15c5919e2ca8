//! The node's side: answers.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _, stream};
use libp2p::PeerId;
use punchline_bridge::{
    Endpoint, RelayLocator,
    error::PingError,
    status::{Purpose, Retried},
};
use tokio::{
    net::UnixListener,
    sync::{Semaphore, broadcast},
};
use tonic::{Request, Response, Status, transport::Server};
use tonic_health::pb::health_server::HealthServer;

#[cfg(feature = "kad")]
use super::discovery;
use super::{
    found,
    health::Wellness,
    offers::Board,
    proto::{self, node_server},
    reload::{Files, Reloader},
    seated::Seated,
    shape,
};
#[cfg(feature = "kad")]
use crate::verify::{self, NotVerified, Question, Verifier};
use crate::{
    finding::Finder,
    names::{Names, NamesError, PeerRef},
    report::{self, Reporter},
    story,
};

/// Calls on one connection at a time, and connections: whoever can connect owns the node, and yet what loops there should
/// not cost it much. One more waits.
const CALLS_MAX: usize = 16;
const CONNECTIONS_MAX: usize = 64;

const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The node does not answer while a turn of its loop takes so long.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Who answers.
#[derive(Clone)]
pub(crate) struct Answering {
    /// The node.
    pub(crate) endpoint: Endpoint,
    /// The command that runs.
    pub(crate) command: &'static str,
    /// What it is for.
    pub(crate) purpose: Purpose,
    /// The relays that the operator named.
    pub(crate) named: Arc<[RelayLocator]>,
    /// What happens.
    pub(crate) reporter: Reporter,
    /// What the command does.
    pub(crate) board: Board,
    /// What finds peers.
    pub(crate) finder: Finder,
    /// Whose names peers have.
    pub(crate) files: Files,
    /// What reads files again.
    pub(crate) reloader: Reloader,
    /// What verifies discovery, if the node takes part in a DHT.
    #[cfg(feature = "kad")]
    pub(crate) verifier: Option<Verifier>,
}

impl Answering {
    /// What keeps the node from being usable.
    pub(crate) fn hindrance(&self, status: &punchline_bridge::Status) -> Option<String> {
        status.hindrance(&self.purpose)
    }

    /// The node's part in the DHT.
    #[cfg(feature = "kad")]
    fn dht(&self) -> Result<&punchline_discovery::kad::Dht, Status> {
        let none = "this node takes no part in a DHT; start it with --bootstrap <a node of it>, or say --bootstrap here";
        self.finder.dht().ok_or_else(|| Status::failed_precondition(none))
    }

    /// Who is meant, by the id or by what this node calls it.
    async fn peer(&self, text: &str) -> Result<PeerId, Status> {
        let wrong = |error: String| Status::invalid_argument(error);
        let peer: PeerRef = text.parse().map_err(|error| wrong(format!("`{text}` is {error}")))?;
        self.meant(peer).await
    }

    /// Who is called that here.
    async fn meant(&self, peer: PeerRef) -> Result<PeerId, Status> {
        let wrong = |error: String| Status::invalid_argument(error);
        match peer {
            PeerRef::Id(peer) => Ok(peer),
            peer => {
                let names = names(&self.files).await.map_err(|error| wrong(error.to_string()))?;
                names.resolve(&peer).map_err(|error| wrong(error.to_string()))
            }
        }
    }
}

/// What peers are called now.
pub(super) async fn names(files: &Files) -> Result<Names, NamesError> {
    let file = files.names.clone();
    // A runtime that ends reads no more files.
    tokio::task::spawn_blocking(move || file.read()).await.unwrap_or_else(|_| Ok(Names::default()))
}

pub(super) async fn reload(reloader: &Reloader) -> Result<Response<proto::Reloaded>, Status> {
    let read = reloader.ask().await.map_err(Status::failed_precondition)?;
    Ok(Response::new(proto::Reloaded { read }))
}

/// Answers whoever connects.
pub(super) async fn serve(listener: UnixListener, node: impl node_server::Node, health: Wellness) {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
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
        .add_service(HealthServer::new(health))
        .add_service(node_server::NodeServer::new(node));
    if let Err(error) = router.serve_with_incoming(Box::pin(incoming)).await {
        tracing::warn!(%error, "the control socket answers no more");
    }
}

/// What a node's status is asked with.
pub(super) async fn in_time<T>(answer: impl Future<Output = Option<T>>) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded("the node is too busy to answer");
    let answer = tokio::time::timeout(ANSWER_DEADLINE, answer).await.map_err(late)?;
    answer.ok_or_else(|| Status::unavailable("the node has ended"))
}

pub(super) type Events = Pin<Box<dyn Stream<Item = Result<proto::Event, Status>> + Send>>;

#[tonic::async_trait]
impl node_server::Node for Answering {
    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::Status>, Status> {
        let status = in_time(self.endpoint.status()).await?;
        let told = shape::Told {
            command: self.command,
            hindrance: self.hindrance(&status),
            names: names(&self.files).await.unwrap_or_default(),
            named: self.named.clone(),
            services: self.board.services(),
            forwards: self.board.forwards(),
        };
        #[cfg_attr(not(any(feature = "kad", feature = "mainline")), allow(unused_mut))]
        let mut status = shape::status(&status, told);
        #[cfg(feature = "kad")]
        if let Some(dht) = self.finder.dht() {
            status.dht = in_time(dht.status()).await.ok().as_ref().map(super::dht::status);
        }
        #[cfg(feature = "mainline")]
        if let Some(node) = self.finder.mainline() {
            status.mainline = in_time(super::mainline::told(&node)).await.ok();
        }
        #[cfg(feature = "kad")]
        if let Some(verified) = self.verifier.as_ref().and_then(Verifier::last) {
            status.verification = Some(verify::shape::verification(&verified));
        }
        Ok(Response::new(status))
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::Story>, Status> {
        let peer = self.peer(&request.into_inner().peer).await?;
        let status = in_time(self.endpoint.status()).await?;
        let names = names(&self.files).await.unwrap_or_default();
        let story = story::tell(peer, &status, &self.reporter.memory(), Instant::now());
        let story = story.map(|story| Response::new(story::with_names(story, &names)));
        story.map_err(|unknown| Status::not_found(names.in_text(&unknown.to_string())))
    }

    async fn ping(&self, request: Request<proto::PingRequest>) -> Result<Response<proto::Pong>, Status> {
        let peer = self.peer(&request.into_inner().peer).await?;
        match self.endpoint.ping(peer).await {
            Ok(pong) => {
                let names = names(&self.files).await.unwrap_or_default();
                Ok(Response::new(shape::pong(&pong, &names)))
            }
            Err(error @ PingError::NotConnected) => Err(Status::not_found(error.to_string())),
            Err(error @ PingError::Unanswered { .. }) => {
                Err(Status::deadline_exceeded(error.to_string()))
            }
            Err(error @ PingError::Shutdown) => Err(Status::unavailable(error.to_string())),
        }
    }

    async fn list_found(
        &self,
        _: Request<proto::ListFoundRequest>,
    ) -> Result<Response<proto::Found>, Status> {
        let status = in_time(self.endpoint.status()).await?;
        let names = names(&self.files).await.unwrap_or_default();
        Ok(Response::new(found::peers(&self.finder.known().await, &status.peers, &names)))
    }

    async fn reload(
        &self,
        _: Request<proto::ReloadRequest>,
    ) -> Result<Response<proto::Reloaded>, Status> {
        reload(&self.reloader).await
    }

    async fn retry(
        &self,
        request: Request<proto::RetryRequest>,
    ) -> Result<Response<proto::Retried>, Status> {
        let peer = match request.into_inner().peer {
            Some(peer) => Some(self.peer(&peer).await?),
            None => None,
        };
        match in_time(self.endpoint.retry(peer)).await? {
            Retried::Begun { upgrades, relays, peers } => {
                let [upgrades, relays, peers] = [upgrades, relays, peers].map(|count| count as u32);
                Ok(Response::new(proto::Retried { upgrades, relays, peers }))
            }
            Retried::TooSoon { wait } => {
                let wait = wait.as_secs_f64();
                Err(Status::resource_exhausted(format!("tried a moment ago; again in {wait:.0} s")))
            }
        }
    }

    #[cfg(feature = "kad")]
    async fn verify(
        &self,
        request: Request<proto::VerifyRequest>,
    ) -> Result<Response<proto::Verification>, Status> {
        let Some(verifier) = &self.verifier else {
            return Err(Status::failed_precondition(verify::NO_DHT));
        };
        let proto::VerifyRequest { namespace, namespace_secret, peer } = request.into_inner();
        let peer = match peer {
            Some(peer) => Some(self.peer(&peer).await?),
            None => None,
        };
        let namespace = verifier.namespace(namespace.as_deref(), namespace_secret.as_deref());
        let namespace = namespace.map_err(|error| Status::invalid_argument(error.to_string()))?;
        match verifier.verify(Question { namespace, peer }).await {
            Ok(verified) => Ok(Response::new(verify::shape::verification(&verified))),
            Err(error @ NotVerified::Busy) => Err(Status::resource_exhausted(error.to_string())),
            Err(error @ NotVerified::Late) => Err(Status::deadline_exceeded(error.to_string())),
        }
    }

    #[cfg(not(feature = "kad"))]
    async fn verify(
        &self,
        _: Request<proto::VerifyRequest>,
    ) -> Result<Response<proto::Verification>, Status> {
        Err(Status::unimplemented("this program was built without the DHT (the feature `kad`)"))
    }

    async fn watch_events(
        &self,
        request: Request<proto::WatchEventsRequest>,
    ) -> Result<Response<Events>, Status> {
        Ok(Response::new(events(&self.reporter, request.into_inner().follow)))
    }

    #[cfg(feature = "kad")]
    async fn put(&self, request: Request<proto::PutRequest>) -> Result<Response<proto::Stored>, Status> {
        discovery::put(self.dht()?, request.into_inner()).await.map(Response::new)
    }

    #[cfg(feature = "kad")]
    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::Got>, Status> {
        let mut request = request.into_inner();
        if let Some(proto::get_request::What::Value(value)) = &mut request.what {
            value.peer = self.peer(&value.peer).await?.to_string();
        }
        discovery::get(self.dht()?, request).await.map(Response::new)
    }

    #[cfg(feature = "kad")]
    async fn provide(
        &self,
        request: Request<proto::ProvideRequest>,
    ) -> Result<Response<proto::Provided>, Status> {
        discovery::provide(self.dht()?, request.into_inner()).await.map(Response::new)
    }

    #[cfg(feature = "kad")]
    async fn list_providers(
        &self,
        request: Request<proto::ListProvidersRequest>,
    ) -> Result<Response<proto::Providers>, Status> {
        discovery::providers(self.dht()?, request.into_inner()).await.map(Response::new)
    }

    #[cfg(feature = "kad")]
    async fn find_peer(
        &self,
        request: Request<proto::FindPeerRequest>,
    ) -> Result<Response<proto::Contact>, Status> {
        let text = request.into_inner().peer;
        let named: PeerRef =
            text.parse().map_err(|error| Status::invalid_argument(format!("`{text}` is {error}")))?;
        let peer = match named {
            PeerRef::Authority(_) => named,
            named => PeerRef::Id(self.meant(named).await?),
        };
        discovery::find_peer(self.dht()?, peer).await.map(Response::new)
    }
}

/// What happened lately, and with `follow` what happens from now on. Whoever lags behind is told how many are missing.
pub(super) fn events(reporter: &Reporter, follow: bool) -> Events {
    let (recent, lines) = reporter.watch();
    let said = |json: &str| Ok(proto::Event { json: json.trim_end().to_owned() });
    let recent = stream::iter(recent).map(move |json| said(&json));
    if !follow {
        return recent.boxed();
    }
    let lines = stream::unfold(lines, move |mut lines| async move {
        let line = match lines.recv().await {
            Ok(json) => said(&json),
            Err(broadcast::error::RecvError::Lagged(count)) => said(&report::gap(count)),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((line, lines))
    });
    recent.chain(lines).boxed()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use punchline_bridge::{Config, Keypair};
    use tokio::net::UnixStream;

    use super::{super::reload::Keeper, *};
    use crate::{
        cli::{Asking, ControlSocket, Nets},
        names::NamesFile,
    };

    /// A node that knows nobody, as this command runs it.
    async fn answering(command: &'static str) -> Answering {
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let config = Config { listen, ..Config::default() };
        let (endpoint, _events) = Endpoint::start(config, Keypair::generate_ed25519()).await.unwrap();
        let reporter = Reporter::none();
        let files = Files {
            nets: Nets::default(),
            keeper: Keeper::Node(endpoint.clone()),
            names: NamesFile::default(),
            reporter: reporter.clone(),
        };
        let (purpose, board) = (Purpose::BeFound { by_relays: false }, Board::default());
        let (named, finder) = (Arc::default(), Finder::silent(&endpoint).await);
        let hangups = tokio::sync::watch::Sender::new(0).subscribe();
        let (reloader, _) = Reloader::start(files.clone(), board.clone(), hangups);
        Answering {
            endpoint,
            command,
            purpose,
            named,
            reporter,
            board,
            finder,
            files,
            reloader,
            #[cfg(feature = "kad")]
            verifier: None,
        }
    }

    #[tokio::test]
    async fn one_connection_more_than_there_may_be_waits_for_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let node = answering("server").await;
        let serving = tokio::spawn(serve(
            UnixListener::bind(&path).unwrap(),
            node.clone(),
            Wellness::Node(Box::new(node)),
        ));
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

    #[tokio::test]
    async fn whoever_follows_too_slowly_is_told_how_many_are_missing_and_goes_on() {
        let reporter = Reporter::none();
        let mut followed = events(&reporter, true);
        let nets = || report::ReportEvent::NetsReloaded { error: None };
        let most = report::LAG_MAX as u64;
        (0..most + 3).for_each(|_| reporter.report(nets()));
        let next = async |events: &mut Events| events.next().await.unwrap().unwrap().json;
        let gap = next(&mut followed).await;
        assert!(gap.ends_with(r#""event":"events_lost","count":3}"#), "{gap}");
        for _ in 0..most {
            assert!(next(&mut followed).await.contains("nets_reloaded"));
        }
        reporter.report(nets());
        assert!(next(&mut followed).await.contains("nets_reloaded"));
    }

    #[tokio::test]
    async fn a_probe_that_speaks_the_usual_protocol_hears_whether_the_node_is_usable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let config = Config { listen, ..Config::default() };
        let (other, _events) = Endpoint::start(config, Keypair::generate_ed25519()).await.unwrap();
        let purpose = Purpose::Find([other.peer_id()].into());
        let node = Answering { purpose, ..answering("forward").await };
        let serving = tokio::spawn(serve(
            UnixListener::bind(&path).unwrap(),
            node.clone(),
            Wellness::Node(Box::new(node.clone())),
        ));
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let path = path.clone();
            async { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
        });
        let channel = tonic::transport::Endpoint::from_static("http://node");
        let channel = channel.connect_with_connector(connector).await.unwrap();
        let mut probe = tonic_health::pb::health_client::HealthClient::new(channel);
        let of = |service: &str| tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        let lonely = probe.check(of("punchline.v1.Node")).await.unwrap().into_inner();
        assert_eq!(lonely.status().as_str_name(), "NOT_SERVING", "it has no peer");
        let mut watched = probe.watch(of("")).await.unwrap().into_inner();
        let first = watched.message().await.unwrap().unwrap();
        assert_eq!(first.status().as_str_name(), "NOT_SERVING");
        let unknown = probe.check(of("other")).await.unwrap_err();
        assert_eq!(unknown.code(), tonic::Code::NotFound);
        node.endpoint.add_addresses(other.peer_id(), other.listening().to_vec()).await;
        node.endpoint.hold(other.peer_id()).await;
        let then = watched.message().await.unwrap().unwrap();
        assert_eq!(then.status().as_str_name(), "SERVING", "it has one");
        serving.abort();
    }
}
