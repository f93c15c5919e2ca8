//! Gives metrics out over HTTP, and answers probes: `/metrics`, `/healthz`, `/readyz`.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode, header::HOST, http::request::Parts};
use punchline_bridge::{Status, config::Limits, relay::Handle};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, timeout},
};

use super::{Exposition, Metrics, Part};
use crate::{
    Unusable, cli,
    control::Answering,
    http::{Answer, Fresh, Listener, Respond, is_meant, plain, refuse_method, text},
    report::{ReportEvent, Reporter},
};

/// For a node to say how it is: it does not while a turn of its loop takes so long.
const STATUS_DEADLINE: Duration = Duration::from_secs(5);

/// Between two looks at how long answers of peers take.
const MEASURE_INTERVAL: Duration = Duration::from_secs(15);

/// A socket on which requests wait.
pub(crate) struct Bound(Listener);

/// Gives metrics out.
///
/// # Drop
/// No more.
pub(crate) struct Serving {
    _tasks: JoinSet<()>,
}

/// Whose metrics they are.
pub(crate) enum Subject {
    /// A node's.
    Node {
        /// Who says how it is.
        node: Box<Answering>,
        /// Its limits.
        limits: Box<Limits>,
    },
    /// A relay's, which listens.
    Relay(Handle),
}

impl Bound {
    /// Listens where the settings say, if they do.
    ///
    /// # Errors
    /// If the address may not be meant, or cannot be listened on.
    pub(crate) async fn new(settings: &cli::Metrics) -> anyhow::Result<Option<Self>> {
        let Some(address) = settings.address().map_err(Unusable)? else { return Ok(None) };
        Listener::bind(address, "--metrics").await.map(|listener| Some(Self(listener)))
    }

    /// Answers.
    pub(crate) fn serve(self, subject: Subject, command: &'static str, reporter: &Reporter) -> Serving {
        let Self(listener) = self;
        let address = listener.address;
        let teller = Arc::new(teller(subject, address, command, reporter.metrics()));
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.serve(teller.clone()));
        tasks.spawn(async move { teller.measure().await });
        reporter.report(ReportEvent::MetricsListening { address });
        Serving { _tasks: tasks }
    }
}

fn teller(
    subject: Subject,
    address: SocketAddr,
    command: &'static str,
    metrics: &Arc<Metrics>,
) -> Teller {
    let part = match subject {
        Subject::Node { .. } => Part::Node,
        Subject::Relay(_) => Part::Relay,
    };
    let exposition = Exposition::new(metrics, part, command);
    let (text, hindrance) = (Fresh::default(), Fresh::default());
    Teller { subject, address, metrics: metrics.clone(), exposition, text, hindrance }
}

struct Teller {
    subject: Subject,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    exposition: Exposition,
    /// Made by one look at a time: what streams carried is counted from one look to the next.
    text: Fresh<Result<Bytes, &'static str>>,
    hindrance: Fresh<Option<String>>,
}

impl Respond for Teller {
    async fn respond(&self, request: &Parts) -> Answer {
        if !self.is_meant(&request.headers) {
            let say = "say localhost or the address of --metrics in place of this name";
            return plain(StatusCode::MISDIRECTED_REQUEST, say);
        }
        if let Some(refusal) = refuse_method(&request.method) {
            return refusal;
        }
        match request.uri.path() {
            "/metrics" => match self.text.at(Instant::now(), self.told()).await {
                Ok(told) => text(StatusCode::OK, super::CONTENT_TYPE, told),
                Err(hindrance) => plain(StatusCode::SERVICE_UNAVAILABLE, hindrance),
            },
            "/healthz" => plain(StatusCode::OK, "the process answers"),
            "/readyz" => match self.hindrance.at(Instant::now(), self.hindrance()).await {
                None => plain(StatusCode::OK, "usable"),
                Some(hindrance) => {
                    plain(StatusCode::SERVICE_UNAVAILABLE, &format!("not usable: {hindrance}"))
                }
            },
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz"),
        }
    }
}

impl Teller {
    /// A browser says whom it means; probes may not. Where other hosts come, they do by names that are not known here, and
    /// whoever comes may read.
    fn is_meant(&self, headers: &HeaderMap) -> bool {
        !self.address.ip().is_loopback()
            || !headers.contains_key(HOST)
            || is_meant(self.address, headers)
    }

    async fn told(&self) -> Result<Bytes, &'static str> {
        self.look().await?;
        Ok(self.exposition.text().into())
    }

    /// Sets all gauges.
    async fn look(&self) -> Result<(), &'static str> {
        match &self.subject {
            Subject::Node { node, limits } => {
                self.metrics.about_to_observe();
                let status = status(node).await?;
                self.metrics.observe(&status, limits, node.hindrance(&status).is_none());
            }
            Subject::Relay(relay) => {
                let status = timeout(STATUS_DEADLINE, relay.status()).await;
                self.metrics.observe_relay(&status.map_err(|_| BUSY)?.ok_or(ENDED)?);
            }
        }
        Ok(())
    }

    /// What keeps it from being usable.
    async fn hindrance(&self) -> Option<String> {
        match &self.subject {
            Subject::Node { node, .. } => match status(node).await {
                Ok(status) => node.hindrance(&status),
                Err(hindrance) => Some(hindrance.to_owned()),
            },
            Subject::Relay(relay) => match timeout(STATUS_DEADLINE, relay.status()).await {
                Ok(Some(status)) => status.hindrance(),
                Ok(None) => Some(ENDED.to_owned()),
                Err(_) => Some(BUSY.to_owned()),
            },
        }
    }

    async fn measure(&self) {
        let Subject::Node { node, .. } = &self.subject else { return };
        let mut pause = tokio::time::interval(MEASURE_INTERVAL);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pause.tick().await;
            if let Ok(status) = status(node).await {
                self.metrics.measure(&status);
            }
        }
    }
}

const BUSY: &str = "it is too busy to say how it is";
const ENDED: &str = "it has ended, or is about to";

async fn status(node: &Answering) -> Result<Status, &'static str> {
    timeout(STATUS_DEADLINE, node.endpoint.status()).await.map_err(|_| BUSY)?.ok_or(ENDED)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::SocketAddr;

    use libp2p::identity::Keypair;
    use punchline_bridge::relay::{External, Relay, RelayConfig, StunListen};

    use super::*;
    use crate::http::tests::ask;

    async fn relay() -> Relay {
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let (external, stun) = (External::Observed, StunListen::Off);
        let config = RelayConfig { listen, external, stun, ..RelayConfig::default() };
        Relay::start(config, Keypair::generate_ed25519()).await.unwrap().0
    }

    /// Tells of a relay, which may end.
    async fn start() -> (Serving, SocketAddr, Relay) {
        let relay = relay().await;
        let settings = cli::Metrics { metrics: "127.0.0.1:0".parse().ok(), metrics_public: false };
        let bound = Bound::new(&settings).await.unwrap().unwrap();
        let address = bound.0.address;
        let subject = Subject::Relay(relay.handle());
        (bound.serve(subject, "relay", &Reporter::none()), address, relay)
    }

    #[tokio::test]
    async fn a_relay_is_usable_until_it_ends() {
        let (_serving, address, relay) = start().await;
        let ready = "GET /readyz HTTP/1.0\r\n\r\n";
        assert!(ask(address, ready).await.starts_with("HTTP/1.0 200"));
        let numbers = ask(address, "GET /metrics HTTP/1.0\r\n\r\n").await;
        assert!(numbers.contains("content-type: application/openmetrics-text"), "{numbers}");
        assert!(numbers.contains("punchline_limit_max{limit=\"circuits\"} 1024\n"), "{numbers}");
        relay.shutdown().await;
        let ended = async { while !ask(address, ready).await.starts_with("HTTP/1.0 503") {} };
        // What was said last is good for a moment.
        timeout(Duration::from_secs(10), ended).await.unwrap();
        assert!(ask(address, "GET /healthz HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200"));
    }

    #[tokio::test]
    async fn a_site_that_has_its_name_lead_here_reads_nothing() {
        let (_serving, address, _relay) = start().await;
        for path in ["/metrics", "/readyz", "/healthz"] {
            let get = |host: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let told = ask(address, &get("evil.example:9464")).await;
            assert!(told.starts_with("HTTP/1.1 421"), "{told}");
            assert!(ask(address, &get(&address.to_string())).await.starts_with("HTTP/1.1 200"));
            assert!(ask(address, &get("localhost")).await.starts_with("HTTP/1.1 200"));
        }
    }

    #[tokio::test]
    async fn where_other_hosts_come_they_may_by_any_name() {
        let listen: SocketAddr = "0.0.0.0:9464".parse().unwrap();
        let teller = teller(Subject::Relay(relay().await.handle()), listen, "relay", &Arc::default());
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "relay.example.org:9464".parse().unwrap());
        assert!(teller.is_meant(&headers));
    }
}
