//! A program with a tokio runtime of its own, and a node on it that echoes what peers send.

use std::{io, time::Duration};

use anyhow::{Context as _, Result, bail};
use punchline_bridge::{Endpoint, Event, Incoming, Keypair};
use tokio::{io::AsyncWriteExt as _, runtime::Runtime, sync::oneshot, task::JoinSet, time::timeout};

/// For streams that are still open when the program wants to end.
const DRAIN: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [relay, ranges @ ..] = arguments.as_slice() else {
        bail!("usage: embed <relay's address> [range that counts as public]...")
    };
    let runtime = Runtime::new()?;
    let (node, incoming) = runtime.block_on(start(relay, ranges))?;
    let (stop, stopped) = oneshot::channel();
    let serving = runtime.spawn(echo(incoming, stopped));
    println!("serving `echo` as {}; end of input ends this", node.peer_id());

    // The program's own work, on its own thread.
    io::copy(&mut io::stdin(), &mut io::sink())?;

    // Nothing new, then what is under way, then the connections, and the runtime last.
    drop(stop);
    runtime.block_on(serving)?;
    runtime.block_on(node.shutdown());
    Ok(())
}

async fn start(relay: &str, ranges: &[String]) -> Result<(Endpoint, Incoming)> {
    let (node, mut events) =
        Endpoint::start(greeter::config(ranges)?, Keypair::generate_ed25519()).await?;
    let incoming = node.incoming("echo".parse()?).await?;
    node.reserve(relay.parse()?).await;
    while !matches!(events.next().await.context("the node ended")?, Event::ReservationHeld { .. }) {}
    Ok((node, incoming))
}

async fn echo(mut incoming: Incoming, mut stopped: oneshot::Receiver<()>) {
    let mut echoes = JoinSet::new();
    loop {
        tokio::select! {
            Some(stream) = incoming.next() => {
                let (mut from, mut to) = tokio::io::split(stream);
                echoes.spawn(async move {
                    tokio::io::copy(&mut from, &mut to).await?;
                    to.shutdown().await
                });
            }
            Some(_) = echoes.join_next() => {}
            _ = &mut stopped => break,
        }
    }
    drop(incoming);
    let _ = timeout(DRAIN, async { while echoes.join_next().await.is_some() {} }).await;
}
