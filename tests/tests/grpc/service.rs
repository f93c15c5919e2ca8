//! The service under call. Whatever its handlers see, it tells the test.

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use punchline_bridge::grpc::ConnectInfo;
use tokio::sync::{Barrier, mpsc, watch};
use tonic::{
    Code, Request, Response, Status, Streaming,
    codec::CompressionEncoding::Gzip,
    metadata::{MetadataMap, MetadataValue},
};

use crate::proto::{
    CountRequest, Payload,
    test_server::{Test, TestServer},
};

/// How many calls [`Test::meet`] brings together: as many as HTTP/2 lets one connection have by default.
pub(crate) const MEETING: usize = 200;

/// The largest body the tests send.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 20;

/// The largest message that either end takes: the largest body, and room for its field headers.
pub(crate) const MESSAGE_BYTES_MAX: usize = BODY_BYTES_MAX + 1024;

/// What `Fail` answers with.
pub(crate) const FAILURE: (Code, &str, &[u8]) =
    (Code::FailedPrecondition, "not now: ünïcode, 100 %", b"\0details\xff");

/// What a handler saw.
#[derive(Debug)]
pub(crate) enum Seen {
    /// `Echo` was called.
    Called(ConnectInfo),
    /// `Wait` was called, with this `grpc-timeout`.
    Waiting(Option<String>),
    /// `Wait` or `Count` came to its end, in whichever way.
    Ended,
}

/// The service. `seen` is unbounded, yet no longer than the calls of one test.
pub(crate) struct Tester {
    seen: mpsc::UnboundedSender<Seen>,
    counted: Arc<watch::Sender<u64>>,
    meeting: Barrier,
}

impl Tester {
    /// The service ready to be added to a server, what its handlers see, and how many messages `Count`
    /// has made so far.
    pub(crate) fn serve() -> (TestServer<Self>, mpsc::UnboundedReceiver<Seen>, watch::Receiver<u64>) {
        let (seen, observed) = mpsc::unbounded_channel();
        let (counted, count) = watch::channel(0);
        let tester = Self { seen, counted: Arc::new(counted), meeting: Barrier::new(MEETING) };
        let server = TestServer::new(tester)
            .accept_compressed(Gzip)
            .send_compressed(Gzip)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        (server, observed, count)
    }

    fn on_end(&self) -> OnEnd {
        OnEnd(self.seen.clone())
    }
}

/// Tells when it is dropped, which is all that a cancelled handler can do.
struct OnEnd(mpsc::UnboundedSender<Seen>);

impl Drop for OnEnd {
    fn drop(&mut self) {
        let _ = self.0.send(Seen::Ended);
    }
}

/// The metadata that `Fail` and `Count` add: text and bytes.
pub(crate) fn metadata(count: u64) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert("x-count", count.into());
    metadata.insert_bin("x-blob-bin", MetadataValue::from_bytes(&[0, 255, 10, 13]));
    metadata
}

#[tonic::async_trait]
impl Test for Tester {
    type CountStream = BoxStream<'static, Result<Payload, Status>>;
    type ConverseStream = BoxStream<'static, Result<Payload, Status>>;

    async fn echo(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        let connection = request.extensions().get::<ConnectInfo>().cloned();
        let connection =
            connection.ok_or_else(|| Status::internal("a request without a ConnectInfo"))?;
        let _ = self.seen.send(Seen::Called(connection));
        let (metadata, _, payload) = request.into_parts();
        let mut response = Response::new(payload);
        if let Some(text) = metadata.get("x-text") {
            response.metadata_mut().insert("x-text", text.clone());
        }
        if let Some(blob) = metadata.get_bin("x-blob-bin") {
            response.metadata_mut().insert_bin("x-blob-bin", blob.clone());
        }
        Ok(response)
    }

    async fn meet(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        self.meeting.wait().await;
        Ok(Response::new(request.into_inner()))
    }

    async fn wait(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        let _told = self.on_end();
        let timeout = request.metadata().get("grpc-timeout");
        let timeout = timeout.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let _ = self.seen.send(Seen::Waiting(timeout));
        std::future::pending().await
    }

    async fn fail(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        let (code, message, details) = FAILURE;
        let metadata = metadata(request.into_inner().number);
        Err(Status::with_details_and_metadata(code, message, details.to_vec().into(), metadata))
    }

    async fn count(
        &self,
        request: Request<CountRequest>,
    ) -> Result<Response<Self::CountStream>, Status> {
        let CountRequest { messages, body_bytes } = request.into_inner();
        let counted = self.counted.clone();
        let told = self.on_end();
        let payloads = (0..messages).map(move |number| {
            let _told = &told;
            counted.send_modify(|count| *count += 1);
            Ok(payload(number, body_bytes as usize))
        });
        // A status of OK at the end of a stream is how tonic is told about trailers.
        let end = Status::with_metadata(Code::Ok, "", metadata(messages));
        Ok(Response::new(futures::stream::iter(payloads.chain([Err(end)])).boxed()))
    }

    async fn sum(&self, request: Request<Streaming<Payload>>) -> Result<Response<Payload>, Status> {
        let mut payloads = request.into_inner();
        let mut number = 0;
        while let Some(payload) = payloads.message().await? {
            number += payload.number;
        }
        Ok(Response::new(payload(number, 0)))
    }

    async fn converse(
        &self,
        request: Request<Streaming<Payload>>,
    ) -> Result<Response<Self::ConverseStream>, Status> {
        let answers = request
            .into_inner()
            .map(|message| message.map(|Payload { number, body }| Payload { number: number + 1, body }));
        Ok(Response::new(answers.boxed()))
    }
}

/// A payload whose body shows which one it is.
pub(crate) fn payload(number: u64, body_bytes: usize) -> Payload {
    Payload { number, body: vec![number as u8; body_bytes] }
}
