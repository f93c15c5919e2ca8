//! Bulk over a direct connection on loopback, between TCP sockets.

use anyhow::{Context as _, Result};
use tokio::net::TcpStream;

use crate::{
    bulk::{self, Hasher},
    world::{ANY, World, listener},
};

pub(crate) async fn bulk() -> Result<()> {
    let world = World::new()?;
    let ((target, address), hasher) = (listener().await?, Hasher::new());
    tokio::spawn(async move {
        while let Ok((socket, _)) = target.accept().await {
            hasher.hear(socket);
        }
    });
    let service = format!("hash={address}");
    let exposing = world.expose("exposer", &["--service", &service, "--allow-any"]).await?;
    let forward = world.forward(&exposing, "hash", ANY).await?;
    bulk::send(|| TcpStream::connect(&forward.local)).await.with_context(|| {
        [&forward.program, &exposing.program].map(|program| program.report()).concat()
    })?;
    bulk::check_memory("direct", &[("expose", &exposing.program), ("forward", &forward.program)])
}
