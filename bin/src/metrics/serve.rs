//! Gives metrics out over HTTP, and answers probes: `/metrics`, `/healthz`, `/readyz`.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode, header::HOST, http::request::Parts};
use punchline_bridge::{Status, config::Limits, relay::Handle};
#[cfg(feature = "kad")]
use punchline_discovery::kad::{self, Dht};
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
    Relay {
        /// Who says how it is.
        relay: Handle,
        /// Its part in the DHT, if it takes any.
        #[cfg(feature = "kad")]
        dht: Option<Dht>,
    },
    /// A node's of the DHT, which does nothing else.
    #[cfg(feature = "kad")]
    Bootstrap(Dht),
}

impl Subject {
    fn part(&self) -> Part {
        match self {
            Self::Node { .. } => Part::Node,
            #[cfg(feature = "kad")]
            Self::Relay { dht: Some(_), .. } => Part::Monitor,
            Self::Relay { .. } => Part::Relay,
            #[cfg(feature = "kad")]
            Self::Bootstrap(_) => Part::Bootstrap,
        }
    }

    /// Its part in the DHT, if it takes any.
    #[cfg(feature = "kad")]
    fn dht(&self) -> Option<&Dht> {
        match self {
            Self::Node { node, .. } => node.finder.dht(),
            Self::Relay { dht, .. } => dht.as_ref(),
            Self::Bootstrap(dht) => Some(dht),
        }
    }
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
    let exposition = Exposition::new(metrics, subject.part(), command);
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
            Subject::Relay { relay, .. } => {
                let status = timeout(STATUS_DEADLINE, relay.status()).await;
                self.metrics.observe_relay(&status.map_err(|_| BUSY)?.ok_or(ENDED)?);
            }
            #[cfg(feature = "kad")]
            Subject::Bootstrap(_) => self.metrics.observe_process(),
        }
        #[cfg(feature = "kad")]
        match self.subject.dht() {
            Some(dht) => self.metrics.observe_dht(Some(&of_dht(dht).await?)),
            None => self.metrics.observe_dht(None),
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
            #[cfg(feature = "kad")]
            Subject::Bootstrap(dht) => of_dht(dht).await.err().map(str::to_owned),
            Subject::Relay { relay, .. } => match timeout(STATUS_DEADLINE, relay.status()).await {
                Ok(Some(status)) => status.hindrance(),
                Ok(None) => Some(ENDED.to_owned()),
                Err(_) => Some(BUSY.to_owned()),
            },
        }
    }

    async fn measure(&self) {
        let mut pause = tokio::time::interval(MEASURE_INTERVAL);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pause.tick().await;
            if let Subject::Node { node, .. } = &self.subject
                && let Ok(status) = status(node).await
            {
                self.metrics.measure(&status);
            }
            #[cfg(feature = "kad")]
            if let Some(dht) = self.subject.dht()
                && let Ok(status) = of_dht(dht).await
            {
                self.metrics.measure_dht(&status);
            }
        }
    }
}

const BUSY: &str = "it is too busy to say how it is";
const ENDED: &str = "it has ended, or is about to";

async fn status(node: &Answering) -> Result<Status, &'static str> {
    timeout(STATUS_DEADLINE, node.endpoint.status()).await.map_err(|_| BUSY)?.ok_or(ENDED)
}

#[cfg(feature = "kad")]
async fn of_dht(dht: &Dht) -> Result<kad::Status, &'static str> {
    timeout(STATUS_DEADLINE, dht.status()).await.map_err(|_| BUSY)?.ok_or(ENDED)
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

    fn subject(relay: &Relay) -> Subject {
        Subject::Relay {
            relay: relay.handle(),
            #[cfg(feature = "kad")]
            dht: None,
        }
    }

    /// Tells of a relay, which may end.
    async fn start() -> (Serving, SocketAddr, Relay) {
        let relay = relay().await;
        let settings = cli::Metrics { metrics: "127.0.0.1:0".parse().ok(), metrics_public: false };
        let bound = Bound::new(&settings).await.unwrap().unwrap();
        let address = bound.0.address;
        (bound.serve(subject(&relay), "relay", &Reporter::none()), address, relay)
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
        let teller = teller(subject(&relay().await), listen, "relay", &Arc::default());
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "relay.example.org:9464".parse().unwrap());
        assert!(teller.is_meant(&headers));
    }
}
