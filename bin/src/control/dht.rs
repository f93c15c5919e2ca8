//! A node's part in the DHT as it is said on the control socket, and `punchline bootstrap`, which has nothing else to say.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use punchline_discovery::{Source, kad, store::Announced};
use tonic::{Request, Response, Status};

use super::{
    discovery,
    proto::{self, node_server},
    reload::Reloader,
    service::{Events, events, in_time, reload},
};
use crate::report::Reporter;

pub(super) fn status(status: &kad::Status) -> proto::Dht {
    let counts = |counts: &std::collections::BTreeMap<&'static str, u64>| {
        let count =
            |(what, count): (&&str, &u64)| proto::Count { what: (*what).to_owned(), count: *count };
        counts.iter().map(count).collect()
    };
    proto::Dht {
        network: status.network.clone(),
        mode: if status.server { "server" } else { "client" }.to_owned(),
        joined: status.joined,
        buckets: status.buckets.iter().map(bucket).collect(),
        listening: status.listening.iter().map(ToString::to_string).collect(),
        connections: status.connections as u32,
        bootstraps: status.bootstraps.iter().map(bootstrap).collect(),
        published_seconds: status.published.map(|since| since.as_secs_f64()),
        records: status.kept.records as u32,
        content: status.kept.content as u32,
        providers: status.kept.providers as u32,
        refused: counts(&status.refused),
        denied: counts(&status.denied),
        lookups_found: status.lookups_found,
        lookups_missed: status.lookups_missed,
        requests_sent: status.traffic.sent,
        requests_received: status.traffic.received,
        sent_per_second: status.traffic.sent_per_second,
        received_per_second: status.traffic.received_per_second,
        dials_failed: status.traffic.dials_failed,
        lookup: status.traffic.lookup.map(percentiles),
        round_trip: status.traffic.round_trip.map(percentiles),
        namespaces: status.namespaces.iter().map(namespace).collect(),
        announced: status.announced.iter().map(announced).collect(),
        passed_over: status.passed_over,
        refused_questions: status.refused_questions,
        banned: status.banned as u32,
        nodes_estimated: status.nodes_estimated,
        density_alarm: status.density_alarm,
    }
}

fn percentiles(found: kad::Percentiles) -> proto::Percentiles {
    let kad::Percentiles { median, p95, p99 } = found;
    proto::Percentiles { median_ms: ms(median), p95_ms: ms(p95), p99_ms: ms(p99) }
}

fn namespace(space: &kad::Space) -> proto::Namespace {
    proto::Namespace {
        name: space.namespace.name().to_owned(),
        hash: space.hash.clone(),
        joined: space.joined,
        members: space.members as u32,
    }
}

fn announced(announced: &Announced) -> proto::Announced {
    proto::Announced { hash: announced.hash.clone(), peers: announced.peers as u32 }
}

/// The nodes in its table, as `network peers` shows them.
pub(super) async fn found(dht: &kad::Dht) -> Result<Response<proto::Found>, Status> {
    let nodes = in_time(async { Some(dht.nodes().await) }).await?;
    let peer = |node: kad::Node| proto::FoundPeer {
        peer: node.peer.to_string(),
        sources: vec![Source::Kad.name().to_owned()],
        addresses: node.addresses.iter().map(ToString::to_string).collect(),
        ..proto::FoundPeer::default()
    };
    Ok(Response::new(proto::Found { peers: nodes.into_iter().map(peer).collect() }))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn bucket(bucket: &kad::Bucket) -> proto::Bucket {
    proto::Bucket { index: bucket.index, nodes: bucket.peers as u32 }
}

fn bootstrap(found: &kad::Bootstrap) -> proto::Bootstrap {
    proto::Bootstrap {
        address: found.address.to_string(),
        peer: found.peer.map(|peer| peer.to_string()),
        health: found.health.name().to_owned(),
        round_trip_ms: found.round_trip.map(ms),
        last_answer_seconds: found.last_answer.map(|since| since.as_secs_f64()),
        failures: found.misses,
        network: found.network.as_ref().map(ToString::to_string),
    }
}

/// A bootstrap node that answers.
#[derive(Clone)]
pub(crate) struct AnsweringBootstrap {
    /// Its part in the DHT.
    pub(crate) dht: kad::Dht,
    /// Who it is.
    pub(crate) peer: PeerId,
    /// Since when it runs.
    pub(crate) begun: Instant,
    /// What happens.
    pub(crate) reporter: Reporter,
    /// What reads files again.
    pub(crate) reloader: Reloader,
}

/// What it answers to whoever asks for what it does not do.
fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented(
        "a bootstrap node has no streams and looks for nobody; ask a node that uses it",
    ))
}

#[tonic::async_trait]
impl node_server::Node for AnsweringBootstrap {
    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::Status>, Status> {
        let dht = in_time(self.dht.status()).await?;
        Ok(Response::new(proto::Status {
            peer: self.peer.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: crate::commit().map(str::to_owned),
            command: "bootstrap".to_owned(),
            uptime_seconds: self.begun.elapsed().as_secs_f64(),
            listening: dht.listening.iter().map(ToString::to_string).collect(),
            dht: Some(status(&dht)),
            ..proto::Status::default()
        }))
    }

    async fn ping(&self, _: Request<proto::PingRequest>) -> Result<Response<proto::Pong>, Status> {
        not_here()
    }

    async fn explain(
        &self,
        _: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::Story>, Status> {
        not_here()
    }

    async fn list_found(
        &self,
        _: Request<proto::ListFoundRequest>,
    ) -> Result<Response<proto::Found>, Status> {
        found(&self.dht).await
    }

    async fn retry(&self, _: Request<proto::RetryRequest>) -> Result<Response<proto::Retried>, Status> {
        not_here()
    }

    async fn verify(
        &self,
        _: Request<proto::VerifyRequest>,
    ) -> Result<Response<proto::Verification>, Status> {
        not_here()
    }

    async fn reload(
        &self,
        _: Request<proto::ReloadRequest>,
    ) -> Result<Response<proto::Reloaded>, Status> {
        reload(&self.reloader).await
    }

    async fn watch_events(
        &self,
        request: Request<proto::WatchEventsRequest>,
    ) -> Result<Response<Events>, Status> {
        Ok(Response::new(events(&self.reporter, request.into_inner().follow)))
    }

    async fn put(&self, request: Request<proto::PutRequest>) -> Result<Response<proto::Stored>, Status> {
        discovery::put(&self.dht, request.into_inner()).await.map(Response::new)
    }

    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::Got>, Status> {
        discovery::get(&self.dht, request.into_inner()).await.map(Response::new)
    }

    async fn provide(
        &self,
        request: Request<proto::ProvideRequest>,
    ) -> Result<Response<proto::Provided>, Status> {
        discovery::provide(&self.dht, request.into_inner()).await.map(Response::new)
    }

    async fn list_providers(
        &self,
        request: Request<proto::ListProvidersRequest>,
    ) -> Result<Response<proto::Providers>, Status> {
        discovery::providers(&self.dht, request.into_inner()).await.map(Response::new)
    }

    async fn find_peer(
        &self,
        request: Request<proto::FindPeerRequest>,
    ) -> Result<Response<proto::Contact>, Status> {
        let text = request.into_inner().peer;
        let peer =
            text.parse().map_err(|error| Status::invalid_argument(format!("`{text}` is {error}")))?;
        discovery::find_peer(&self.dht, peer).await.map(Response::new)
    }
}
