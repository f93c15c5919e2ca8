//! Events for a browser: server-sent events, one for each event's line.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{StatusCode, body::Frame};
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    http::{self, Answer, Lasts, plain},
    report::Reporter,
};

/// Listeners at once: some windows of some people, and never all connections. One more is told to come again.
pub(super) const LISTENERS_MAX: usize = 8;

/// A listener that reads nothing keeps a place so long; a browser comes again by itself.
const LISTEN_MAX: Duration = Duration::from_secs(600);

/// Without an event a line for nobody is written so often: whoever has gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Gives the events of a node out.
pub(super) struct Broadcast {
    reporter: Reporter,
    places: Arc<Semaphore>,
}

impl Broadcast {
    pub(super) fn new(reporter: Reporter) -> Self {
        Self { reporter, places: Arc::new(Semaphore::new(LISTENERS_MAX)) }
    }

    /// What happened lately, and then what happens.
    pub(super) fn listen(&self) -> Answer {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many listen already");
        };
        let (recent, lines) = self.reporter.watch();
        let live = stream::unfold((lines, place), |(mut lines, place)| async {
            let line = match timeout(HEARTBEAT, lines.recv()).await {
                Ok(Ok(line)) => message(&line),
                Err(_) => Bytes::from_static(b":\n\n"),
                // The node has ended, or events came faster than they were read: whoever comes again hears the latest.
                Ok(Err(_)) => return None,
            };
            Some((line, (lines, place)))
        });
        let pieces = stream::iter(recent).map(|line| message(&line)).chain(live);
        let frames = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let body: UnsyncBoxBody<_, _> = StreamBody::new(frames).boxed_unsync();
        let mut answer = http::stream(StatusCode::OK, "text/event-stream", body);
        answer.extensions_mut().insert(Lasts(LISTEN_MAX));
        answer
    }
}

/// An event's line has no line ends in it.
fn message(line: &str) -> Bytes {
    format!("data: {line}\n\n").into()
}
