//! What a remote terminal does: single bytes, each waiting for its echo, and ends one direction at a time.

use anyhow::{Context as _, Result, ensure};
use punchline_tests::process::Program;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::world::{ANY, Gateway, SOON};

/// Keys pressed.
const ROUNDS: usize = 500;

/// What the far side says when it is left.
const FAREWELL: &[u8] = b"logout\n";

pub(crate) async fn keystrokes() -> Result<()> {
    let gateway = Gateway::start(&shell().await?, ANY).await?;
    let mut terminal = TcpStream::connect(&gateway.local).await?;
    terminal.set_nodelay(true)?;
    for round in 0..ROUNDS {
        press(&mut terminal, round as u8).await.with_context(|| format!("round {round}"))?;
    }
    // On a fast machine it has moved long ago; on a slow one it moves under further keys.
    let moving = async {
        while !has_moved(&gateway.forward) {
            press(&mut terminal, b'.').await?;
        }
        press(&mut terminal, b'!').await
    };
    timeout(SOON, moving).await.context("it stayed on the relay")?
}

fn has_moved(forward: &Program) -> bool {
    forward.events().iter().any(|event| event.name() == "stream_moved" && event.has("to", "direct"))
}

pub(crate) async fn half_close() -> Result<()> {
    let gateway = Gateway::start(&shell().await?, ANY).await?;
    let mut terminal = TcpStream::connect(&gateway.local).await?;
    press(&mut terminal, b'x').await?;
    terminal.shutdown().await?;
    let mut heard = Vec::new();
    timeout(SOON, terminal.read_to_end(&mut heard)).await.context("no end")??;
    ensure!(heard == FAREWELL, "{heard:?}");
    Ok(())
}

async fn press(terminal: &mut TcpStream, key: u8) -> Result<()> {
    let echoed = async {
        terminal.write_u8(key).await?;
        terminal.read_u8().await
    };
    let echoed = timeout(SOON, echoed).await.context("no echo")??;
    ensure!(echoed == key, "{echoed} instead of {key}");
    Ok(())
}

/// Echoes single bytes; when nothing more comes, says farewell.
async fn shell() -> Result<String> {
    let listener = TcpListener::bind(ANY).await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(echo(socket));
        }
    });
    Ok(address)
}

async fn echo(mut socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut key = [0; 1];
    while socket.read(&mut key).await? == 1 {
        socket.write_all(&key).await?;
    }
    socket.write_all(FAREWELL).await?;
    socket.shutdown().await
}
