//! Gives metrics out over HTTP, and answers probes: `/metrics`, `/healthz`, `/readyz`.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use punchline_bridge::{Status, config::Limits, relay::Handle};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore},
    task::JoinSet,
    time::{MissedTickBehavior, timeout},
};

use super::{Exposition, Metrics, Part};
use crate::{
    Unusable, cli,
    control::Answering,
    report::{ReportEvent, Reporter},
};

/// Connections at once: a Prometheus or two, probes, and somebody who looks. One more waits.
const CONNECTIONS_MAX: usize = 32;

/// For a connection, which is one request: from its beginning until its answer is taken.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

/// What a request may say before its body; hyper takes no more than 100 lines of it.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// For a node to say how it is: it does not while a turn of its loop takes so long.
const STATUS_DEADLINE: Duration = Duration::from_secs(5);

/// Between two looks at how long answers of peers take.
const MEASURE_INTERVAL: Duration = Duration::from_secs(15);

/// The system has no descriptor to spare, and will not for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A socket on which requests wait.
pub(crate) struct Bound(TcpListener, SocketAddr);

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
        node: Answering,
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
        let failed = |cause| {
            anyhow::anyhow!(
                "cannot listen on {address} for --metrics: {cause}; name another address or port"
            )
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Some(Self(listener, address)))
    }

    /// Answers.
    pub(crate) fn serve(self, subject: Subject, command: &'static str, reporter: &Reporter) -> Serving {
        let Self(listener, address) = self;
        let teller = Arc::new(teller(subject, command, reporter.metrics()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, teller.clone()));
        tasks.spawn(async move { teller.measure().await });
        reporter.report(ReportEvent::MetricsListening { address });
        Serving { _tasks: tasks }
    }
}

fn teller(subject: Subject, command: &'static str, metrics: &Arc<Metrics>) -> Teller {
    let part = match subject {
        Subject::Node { .. } => Part::Node,
        Subject::Relay(_) => Part::Relay,
    };
    let exposition = Exposition::new(metrics, part, command);
    Teller { subject, metrics: metrics.clone(), exposition, turn: Mutex::default() }
}

async fn accept(listener: TcpListener, teller: Arc<Teller>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut answers = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = listener.accept().await;
        while answers.try_join_next().is_some() {}
        match accepted {
            Ok((socket, _)) => {
                let teller = teller.clone();
                answers.spawn(async move {
                    let _place = place;
                    answer(socket, teller, CONNECTION_DEADLINE).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a request for metrics could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(socket: TcpStream, teller: Arc<Teller>, deadline: Duration) {
    let service = service_fn(move |request: Request<_>| {
        let teller = teller.clone();
        async move { Ok::<_, Infallible>(teller.respond(request.method(), request.uri().path()).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(deadline)
        .max_header_size(HEADER_BYTES_MAX)
        .keep_alive(false);
    match timeout(deadline, http.serve_connection(TokioIo::new(socket), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a request for metrics was not answered"),
        Err(_) => tracing::debug!("a request for metrics was too slow"),
    }
}

struct Teller {
    subject: Subject,
    metrics: Arc<Metrics>,
    exposition: Exposition,
    /// One looks at a time: what streams carried is counted from one look to the next.
    turn: Mutex<()>,
}

type Answer = Response<Full<Bytes>>;

impl Teller {
    async fn respond(&self, method: &Method, path: &str) -> Answer {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "say GET");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/metrics" => self.metrics().await,
            "/healthz" => plain(StatusCode::OK, "the process answers"),
            "/readyz" => match self.hindrance().await {
                None => plain(StatusCode::OK, "usable"),
                Some(hindrance) => {
                    plain(StatusCode::SERVICE_UNAVAILABLE, &format!("not usable: {hindrance}"))
                }
            },
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz"),
        }
    }

    async fn metrics(&self) -> Answer {
        match self.look().await {
            Ok(()) => {
                let mut answer = respond(StatusCode::OK, self.exposition.text());
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(super::CONTENT_TYPE));
                answer
            }
            Err(hindrance) => plain(StatusCode::SERVICE_UNAVAILABLE, hindrance),
        }
    }

    /// Sets all gauges.
    async fn look(&self) -> Result<(), &'static str> {
        let _turn = self.turn.lock().await;
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
                Ok(Some(_)) => None,
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

fn plain(status: StatusCode, line: &str) -> Answer {
    let mut answer = respond(status, format!("{line}\n"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn respond(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use libp2p::identity::Keypair;
    use punchline_bridge::relay::{External, Relay, RelayConfig, StunListen};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

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
        let address = bound.1;
        let subject = Subject::Relay(relay.handle());
        (bound.serve(subject, "relay", &Reporter::none()), address, relay)
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // What was not read of a request has the connection reset after the answer.
        let _ = socket.read_to_string(&mut answer).await;
        answer
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
        assert!(ask(address, ready).await.starts_with("HTTP/1.0 503"));
        assert!(ask(address, "GET /healthz HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200"));
    }

    #[tokio::test]
    async fn what_is_no_usual_request_is_refused() {
        let (_serving, address, _relay) = start().await;
        let wrong = ask(address, "POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(wrong.starts_with("HTTP/1.1 405") && wrong.contains("allow: GET, HEAD"), "{wrong}");
        let long = "a".repeat(HEADER_BYTES_MAX);
        let long = ask(address, &format!("GET /metrics HTTP/1.1\r\nLong: {long}\r\n\r\n")).await;
        assert!(long.starts_with("HTTP/1.1 431"), "{long}");
        let many = "A: b\r\n".repeat(200);
        let many = ask(address, &format!("GET /metrics HTTP/1.1\r\n{many}\r\n")).await;
        assert!(many.starts_with("HTTP/1.1 431"), "{many}");
    }

    #[tokio::test]
    async fn one_connection_more_than_there_may_be_waits_for_a_place() {
        let (_serving, address, _relay) = start().await;
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut answer = Box::pin(ask(address, "GET /healthz HTTP/1.0\r\n\r\n"));
        let early = timeout(Duration::from_millis(300), &mut answer).await;
        assert!(early.is_err(), "there is no place");
        drop(idle.pop());
        assert!(answer.await.starts_with("HTTP/1.0 200"));
    }

    #[tokio::test]
    async fn whoever_says_nothing_is_sent_away_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let relay = relay().await;
        let teller = Arc::new(teller(Subject::Relay(relay.handle()), "relay", &Arc::default()));
        answer(socket, teller, Duration::from_millis(20)).await;
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "it is closed");
    }
}
