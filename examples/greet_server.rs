//! A gRPC server that others reach by its peer id, wherever it runs.

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, stream::BoxStream};
use greeter::{
    Greeting, Name,
    greeter_server::{Greeter, GreeterServer},
};
use punchline_bridge::{Endpoint, Event, Keypair, grpc};
use tonic::{Request, Response, Status, Streaming};

struct Polite;

#[tonic::async_trait]
impl Greeter for Polite {
    type ChatStream = BoxStream<'static, Result<Greeting, Status>>;

    async fn greet(&self, request: Request<Name>) -> Result<Response<Greeting>, Status> {
        let caller = request.extensions().get::<grpc::ConnectInfo>().cloned();
        Ok(Response::new(greeting(request.get_ref(), caller.as_ref())))
    }

    async fn chat(
        &self,
        request: Request<Streaming<Name>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        let caller = request.extensions().get::<grpc::ConnectInfo>().cloned();
        let names = request.into_inner();
        Ok(Response::new(names.map(move |name| Ok(greeting(&name?, caller.as_ref()))).boxed()))
    }
}

/// Says who called, and by which path: it may change during a call.
fn greeting(name: &Name, caller: Option<&grpc::ConnectInfo>) -> Greeting {
    let path = caller.map_or("unknown".to_owned(), |caller| caller.path().to_string());
    Greeting { text: format!("Hello, {}! You are on a {path} path.", name.name) }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [relay, ranges @ ..] = arguments.as_slice() else {
        bail!("usage: greet_server <relay's address> [range that counts as public]...")
    };
    // A key of its own at each start: keep it in a file for a peer id that lasts.
    let (node, mut events) =
        Endpoint::start(greeter::config(ranges)?, Keypair::generate_ed25519()).await?;
    node.reserve(relay.parse()?).await;
    while !matches!(events.next().await.context("the node ended")?, Event::ReservationHeld { .. }) {}
    println!("greet_client {relay} {}", node.peer_id());

    let incoming = node.incoming("greeter".parse()?).await?;
    let told_to_stop = async { drop(tokio::signal::ctrl_c().await) };
    let server = grpc::server().add_service(GreeterServer::new(Polite));
    server.serve_with_incoming_shutdown(incoming, told_to_stop).await?;
    node.shutdown().await;
    Ok(())
}
