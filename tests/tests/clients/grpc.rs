//! Python's gRPC against a tonic server with health and reflection.

use anyhow::{Result, ensure};
use futures::{StreamExt as _, stream::BoxStream};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};

use crate::world::{ANY, Gateway, python, succeeds};

use self::proto::{
    CountRequest, Payload,
    test_server::{Test, TestServer},
};

/// Generated from `proto/test.proto`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
mod proto {
    tonic::include_proto!("punchline.test");
}

const DESCRIPTOR: &[u8] = tonic::include_file_descriptor_set!("punchline_test_descriptor");

pub(crate) fn missing() -> Option<String> {
    crate::python_without("grpc", "python3-grpcio")
}

pub(crate) async fn over_tcp() -> Result<()> {
    let gateway = Gateway::start(&serve().await?, ANY).await?;
    talk(&gateway.local).await
}

pub(crate) async fn over_unix() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let local = format!("unix:{}", directory.path().join("grpc.sock").to_string_lossy());
    let gateway = Gateway::start(&serve().await?, &local).await?;
    talk(&gateway.local).await
}

async fn talk(target: &str) -> Result<()> {
    let said = succeeds(python("grpc_client.py", &[target])).await?;
    ensure!(said.lines().last() == Some("all shapes of call work"), "{said}");
    Ok(())
}

/// A tonic server as anybody would write it, on a port of its own.
async fn serve() -> Result<String> {
    let listener = TcpListener::bind(ANY).await?;
    let address = listener.local_addr()?.to_string();
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<TestServer<Plain>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR)
        .build_v1()?;
    let server = Server::builder()
        .add_service(TestServer::new(Plain))
        .add_service(health)
        .add_service(reflection)
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    Ok(address)
}

struct Plain;

#[tonic::async_trait]
impl Test for Plain {
    type CountStream = BoxStream<'static, Result<Payload, Status>>;
    type ConverseStream = BoxStream<'static, Result<Payload, Status>>;

    async fn echo(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        let text = request.metadata().get("x-text").cloned();
        let mut response = Response::new(request.into_inner());
        if let Some(text) = text {
            response.metadata_mut().insert("x-text", text);
        }
        Ok(response)
    }

    async fn meet(&self, _: Request<Payload>) -> Result<Response<Payload>, Status> {
        Err(Status::unimplemented("nobody meets here"))
    }

    async fn wait(&self, _: Request<Payload>) -> Result<Response<Payload>, Status> {
        std::future::pending().await
    }

    async fn fail(&self, _: Request<Payload>) -> Result<Response<Payload>, Status> {
        Err(Status::new(Code::FailedPrecondition, "not now: ünïcode, 100 %"))
    }

    async fn count(
        &self,
        request: Request<CountRequest>,
    ) -> Result<Response<Self::CountStream>, Status> {
        let CountRequest { messages, body_bytes } = request.into_inner();
        let payload = move |number| {
            let body = vec![number as u8; body_bytes as usize];
            Ok(Payload { number, body })
        };
        Ok(Response::new(futures::stream::iter((0..messages).map(payload)).boxed()))
    }

    async fn sum(&self, request: Request<Streaming<Payload>>) -> Result<Response<Payload>, Status> {
        let (mut payloads, mut number) = (request.into_inner(), 0);
        while let Some(payload) = payloads.message().await? {
            number += payload.number;
        }
        Ok(Response::new(Payload { number, body: Vec::new() }))
    }

    async fn converse(
        &self,
        request: Request<Streaming<Payload>>,
    ) -> Result<Response<Self::ConverseStream>, Status> {
        let next = |payload: Payload| Payload { number: payload.number + 1, body: payload.body };
        let answers = request.into_inner().map(move |payload| payload.map(next));
        Ok(Response::new(answers.boxed()))
    }
}
