//! A small HTTP server: what a process tells about itself, to few, one request a connection, within a deadline.
//!
//! `seats` is who may have a connection. `host` is whom a browser means. `fresh` lets many who ask at once cost the node one
//! answer.

mod fresh;
mod host;
mod seats;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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
    sync::{Notify, oneshot, watch},
    task::JoinSet,
    time::Instant,
};

use self::seats::{Seat, Seats, Taken};
pub(crate) use self::{
    fresh::Fresh,
    host::{is_meant, is_own_origin},
};

/// For a connection to say what it wants. Who asks knows it; the time is for a line that loses packets.
const HEAD_DEADLINE: Duration = Duration::from_secs(2);

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
        let room = Arc::new(Room::default());
        let mut answers = JoinSet::new();
        loop {
            let accepted = self.socket.accept().await;
            while answers.try_join_next().is_some() {}
            match accepted {
                Ok((socket, from)) => {
                    let Some(seated) = room.seat(from.ip()).await else { continue };
                    answers.spawn(answer(socket, teller.clone(), seated, DEADLINES));
                }
                Err(error) => {
                    tracing::debug!(%error, "a request could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Where connections have seats.
#[derive(Default)]
struct Room {
    seats: Mutex<Seats<oneshot::Sender<()>>>,
    /// A seat may be free.
    left: Notify,
}

impl Room {
    fn seats(&self) -> MutexGuard<'_, Seats<oneshot::Sender<()>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while everybody who is seated is being answered; none if this source has as many seats as it may.
    async fn seat(self: &Arc<Self>, source: IpAddr) -> Option<Seated> {
        loop {
            let left = self.left.notified();
            // Dropped with the seat: that is how its connection learns that it has to go.
            let (stays, gone) = oneshot::channel();
            match self.seats().take(source, stays) {
                Taken::Seat(seat) => return Some(Seated { room: self.clone(), seat, gone }),
                Taken::TooMany => return None,
                Taken::Full => {}
            }
            left.await;
        }
    }
}

/// A connection that has a seat.
///
/// # Drop
/// Leaves it.
struct Seated {
    room: Arc<Room>,
    seat: Seat,
    /// Ends when another takes the seat.
    gone: oneshot::Receiver<()>,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.room.seats().leave(self.seat);
        self.room.left.notify_one();
    }
}

/// For the head of a request, and for all of it.
const DEADLINES: (Duration, Duration) = (HEAD_DEADLINE, CONNECTION_DEADLINE);

async fn answer(
    socket: TcpStream,
    teller: Arc<impl Respond>,
    mut seated: Seated,
    (head, all): (Duration, Duration),
) {
    let (until, mut extended) = watch::channel(Instant::now() + all);
    let (room, seat) = (seated.room.clone(), seated.seat);
    let service = service_fn(move |request: Request<_>| {
        let (teller, until) = (teller.clone(), until.clone());
        room.seats().speaks(seat);
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
        .header_read_timeout(head)
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
        _ = &mut seated.gone => tracing::debug!("somebody who says nothing gave its place to another"),
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
pub(crate) mod tests;
