//! Python's `websockets` at both ends.

use anyhow::{Result, ensure};

use crate::world::{ANY, Gateway, python, server, succeeds};

pub(crate) fn missing() -> Option<String> {
    crate::python_without("websockets", "python3-websockets")
}

pub(crate) async fn talks() -> Result<()> {
    let (_server, address) = server("websocket_server.py").await?;
    let gateway = Gateway::start(&address, ANY).await?;
    let said = succeeds(python("websocket_client.py", &[&gateway.local])).await?;
    ensure!(said.lines().last() == Some("closed with 1000"), "{said}");
    Ok(())
}
