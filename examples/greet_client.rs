//! Calls a gRPC server by its peer id; then each line of standard input is a name in one long call.

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use greeter::{Name, greeter_client::GreeterClient};
use punchline_bridge::{Endpoint, Keypair, PeerId, RelayAddr, grpc};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio_stream::wrappers::LinesStream;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [relay, peer, ranges @ ..] = arguments.as_slice() else {
        bail!(
            "usage: greet_client <relay's address> <server's peer id> [range that counts as public]..."
        )
    };
    let relay: RelayAddr = relay.parse()?;
    let peer: PeerId = peer.parse().with_context(|| format!("`{peer}` is not a peer id"))?;

    let (node, _events) = Endpoint::start(greeter::config(ranges)?, Keypair::generate_ed25519()).await?;
    node.add_addresses(peer, vec![relay.circuit_to(peer)]).await;
    let connector = grpc::Connector::new(node.clone(), peer, "greeter".parse()?);
    let channel = grpc::client(&peer).connect_with_connector(connector).await?;

    let mut greeter = GreeterClient::new(channel);
    let world = Name { name: "World".to_owned() };
    println!("{}", greeter.greet(world).await?.into_inner().text);

    // The call goes on while the stream under it moves from the relay to the direct path.
    let lines = LinesStream::new(BufReader::new(tokio::io::stdin()).lines());
    let names = lines.filter_map(async |line| line.ok().map(|name| Name { name }));
    let mut greetings = greeter.chat(names).await?.into_inner();
    while let Some(greeting) = greetings.message().await? {
        println!("{}", greeting.text);
    }
    node.shutdown().await;
    Ok(())
}
