//! Streams that peers open to one of our services.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::mpsc;

use crate::stream::Stream;

/// The streams of one service, in the order they arrived. Those that nobody takes wait in a bounded
/// queue; what does not fit is refused with a reason and counted. Dropping it ends the service.
///
/// As a [`futures::Stream`] it yields what tonic's `serve_with_incoming` wants; it never yields an error.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<Stream>);

impl Incoming {
    pub(crate) fn new(streams: mpsc::Receiver<Stream>) -> Self {
        Self(streams)
    }

    /// The next stream; none after the node has ended.
    ///
    /// # Cancellation
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Stream> {
        self.0.recv().await
    }
}

impl futures::Stream for Incoming {
    type Item = io::Result<Stream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|stream| stream.map(Ok))
    }
}
