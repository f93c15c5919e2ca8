//! A small HTTP server: what a process tells about itself, to few, one request a connection, within a deadline.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::Instant,
};

/// Connections at once: a Prometheus or two, probes, and somebody who looks. One more waits.
pub(crate) const CONNECTIONS_MAX: usize = 32;

/// For a connection, which is one request: from its beginning until its answer is taken, unless that [`Lasts`].
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

/// What a request may say before its body; hyper takes no more than 100 lines of it.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// The system has no descriptor to spare, and will not for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What is answered.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Extends the deadline of an answer that goes on and on; put among its extensions.
#[derive(Clone, Copy)]
pub(crate) struct Lasts(pub(crate) Duration);

/// Whoever answers.
pub(crate) trait Respond: Send + Sync + 'static {
    /// Answers. The body of a request is read by nobody.
    fn respond(&self, request: &Parts) -> impl Future<Output = Answer> + Send;
}

/// A socket on which requests wait.
pub(crate) struct Listener {
    socket: TcpListener,
    /// Where, with the real port.
    pub(crate) address: SocketAddr,
}

impl Listener {
    /// Listens, as `flag` says.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub(crate) async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<Self> {
        let failed = |cause| {
            anyhow::anyhow!(
                "cannot listen on {address} for {flag}: {cause}; name another address or port"
            )
        };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// Accepts for as long as it runs.
    pub(crate) async fn serve(self, teller: Arc<impl Respond>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut answers = JoinSet::new();
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let accepted = self.socket.accept().await;
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
                    tracing::debug!(%error, "a request could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn answer(socket: TcpStream, teller: Arc<impl Respond>, deadline: Duration) {
    let (until, mut extended) = watch::channel(Instant::now() + deadline);
    let service = service_fn(move |request: Request<_>| {
        let (teller, until) = (teller.clone(), until.clone());
        async move {
            let (request, _) = request.into_parts();
            let mut answer = teller.respond(&request).await;
            if let Some(Lasts(time)) = answer.extensions_mut().remove() {
                until.send_replace(Instant::now() + time);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(deadline)
        .max_header_size(HEADER_BYTES_MAX)
        .keep_alive(false);
    let connection = http.serve_connection(TokioIo::new(socket), service);
    let over = async {
        loop {
            let at = *extended.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(at) => return,
                Ok(()) = extended.changed() => {}
            }
        }
    };
    tokio::select! {
        outcome = connection => if let Err(error) = outcome {
            tracing::debug!(%error, "a request was not answered");
        },
        () = over => tracing::debug!("a request was too slow"),
    }
}

/// What refuses all that does not only ask.
pub(crate) fn refuse_method(method: &Method) -> Option<Answer> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "say GET");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    Some(answer)
}

/// An answer for people and probes.
pub(crate) fn plain(status: StatusCode, line: &str) -> Answer {
    text(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

/// An answer of this type, to be kept by nobody.
pub(crate) fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    stream(status, kind, Full::new(body.into()).boxed_unsync())
}

/// An answer whose body comes in pieces.
pub(crate) fn stream(
    status: StatusCode,
    kind: &'static str,
    body: UnsyncBoxBody<Bytes, Infallible>,
) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;

    /// Sends a request as it stands, and reads until the connection ends.
    pub(crate) async fn ask(address: SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // What was not read of a request has the connection reset after the answer.
        let _ = socket.read_to_string(&mut answer).await;
        answer
    }

    /// Says that it is there, and goes on and on where it is asked to.
    struct Teller;

    impl Respond for Teller {
        async fn respond(&self, request: &Parts) -> Answer {
            if let Some(refusal) = refuse_method(&request.method) {
                return refusal;
            }
            let mut answer = plain(StatusCode::OK, "here");
            if request.uri.path() == "/on" {
                let body = http_body_util::StreamBody::new(futures::stream::pending());
                answer = stream(StatusCode::OK, "text/plain", body.boxed_unsync());
                answer.extensions_mut().insert(Lasts(Duration::from_millis(50)));
            }
            answer
        }
    }

    async fn start() -> (JoinSet<()>, SocketAddr) {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), "--test").await.unwrap();
        let address = listener.address;
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.serve(Arc::new(Teller)));
        (tasks, address)
    }

    #[tokio::test]
    async fn what_is_no_usual_request_is_refused() {
        let (_serving, address) = start().await;
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
        let (_serving, address) = start().await;
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
        answer(socket, Arc::new(Teller), Duration::from_millis(20)).await;
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "it is closed");
    }

    #[tokio::test]
    async fn an_answer_that_goes_on_has_a_deadline_of_its_own() {
        let (_serving, address) = start().await;
        let began = std::time::Instant::now();
        let answer = ask(address, "GET /on HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("chunked"), "{answer}");
        assert!(began.elapsed() < CONNECTION_DEADLINE, "not that of others");
    }
}
