//! Gives the failures of a channel the codes that gRPC has for them.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body::Frame;
use tonic::{
    Code, Status, TimeoutExpired,
    body::Body,
    codegen::{
        Bytes,
        http::{Request, Response},
    },
};
use tower::Service as TowerService;

use crate::error::OpenError;

type BoxError = Box<dyn Error + Send + Sync>;

/// Wraps a tonic channel so that a lost stream is `UNAVAILABLE`, a peer that will not be reached before
/// something is changed ([`OpenError::is_retryable`]) `FAILED_PRECONDITION`, and an expired deadline
/// `DEADLINE_EXCEEDED`, as gRPC's list of status codes has it. tonic's own channel says `UNKNOWN` and
/// `CANCELLED`, by which a caller cannot tell whether to try again. What the peer answers is left as
/// it is, and the cause stays the status's source.
///
/// ```no_run
/// # fn wrap(channel: tonic::transport::Channel) {
/// let channel = punchline_bridge::grpc::Faults::new(channel);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Faults<S> {
    channel: S,
}

impl<S> Faults<S> {
    /// Around a channel, or whatever else a generated client takes.
    pub fn new(channel: S) -> Self {
        Self { channel }
    }
}

impl<S> TowerService<Request<Body>> for Faults<S>
where
    S: TowerService<Request<Body>, Response = Response<Body>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.channel.poll_ready(cx).map_err(|error| fault(error.into()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.channel.call(request);
        Box::pin(async move {
            let answer = answer.await.map_err(|error| fault(error.into()))?;
            Ok(answer.map(|body| Body::new(Answers(body))))
        })
    }
}

/// The body of an answer.
struct Answers(Body);

impl http_body::Body for Answers {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.0).poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(|status| fault(status.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}

/// The status for a failure of the transport. A peer's own status arrives in headers or trailers and
/// never comes by here, so what tonic cannot name is a lost connection.
fn fault(error: BoxError) -> Status {
    let cause: &(dyn Error + 'static) = error.as_ref();
    let causes = || std::iter::successors(Some(cause), |error| Error::source(*error));
    let expired = causes().any(|error| error.is::<TimeoutExpired>());
    let hopeless =
        causes().filter_map(|error| error.downcast_ref()).any(|error: &OpenError| !error.is_retryable());
    let status = Status::from_error(error);
    let code = match status.code() {
        _ if expired => Code::DeadlineExceeded,
        Code::Unknown if hopeless => Code::FailedPrecondition,
        Code::Unknown => Code::Unavailable,
        _ => return status,
    };
    let mut named = Status::new(code, status.message());
    named.set_source(Arc::new(status));
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_gets_grpcs_code_and_keeps_its_cause() {
        let lost = fault(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
        assert_eq!(lost.code(), Code::Unavailable);
        let source = lost.source().and_then(Error::source);
        assert!(source.is_some_and(|source| source.is::<std::io::Error>()), "{lost:?}");
        assert_eq!(fault(TimeoutExpired(()).into()).code(), Code::DeadlineExceeded);
    }

    #[test]
    fn a_peer_that_cannot_be_reached_as_things_are_is_not_asked_to_be_tried_again() {
        let peer = libp2p::PeerId::random();
        assert_eq!(fault(OpenError::NoAddress { peer }.into()).code(), Code::FailedPrecondition);
        let deadline = std::time::Duration::from_secs(30);
        let late = OpenError::Deadline {
            peer,
            deadline,
            stage: crate::error::OpenStage::Connecting,
            tried: Vec::new(),
        };
        assert_eq!(fault(late.into()).code(), Code::Unavailable);
    }

    #[test]
    fn a_status_that_has_a_meaning_already_is_left_alone() {
        assert_eq!(fault(Status::permission_denied("no").into()).code(), Code::PermissionDenied);
        assert_eq!(fault(Status::cancelled("enough").into()).code(), Code::Cancelled);
    }
}
