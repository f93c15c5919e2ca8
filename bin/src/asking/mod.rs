//! What is asked of a node that runs on this machine: `punchline status`, `ping`, `events`, `reload`,
//! `wait-ready`, `health`.

mod events;
mod health;
mod ping;
mod reload;
mod status;

pub(crate) use self::status::json as status_json;

use crate::{
    cli::{Ask, Asking},
    control::{self, proto},
    stop,
};

/// Asks and prints. `check`: only whether the settings are usable; but `health --check` means what it says.
///
/// # Errors
/// If no node answers, or several do and none was named.
pub async fn run(ask: Ask, check: bool) -> anyhow::Result<()> {
    match ask {
        Ask::Health(health) => health::run(health, check).await,
        _ if check => crate::usable(),
        Ask::Status(status) => status::run(status).await,
        Ask::Ping(ping) => ping::run(ping).await,
        Ask::Events(events) => events::run(events).await,
        Ask::Reload(reload) => reload::run(reload).await,
        Ask::WaitReady(wait) => health::wait(wait).await,
    }
}

/// What a node says in place of an answer.
fn refused(error: &tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("the node does not answer: {}", error.message())
}

/// # Errors
/// If no node answers, or several do and none was named, or this program is told to stop meanwhile.
async fn status(asking: &Asking) -> anyhow::Result<proto::Status> {
    let asked = async {
        let mut node = control::ask(asking).await?;
        let answer = node.get_status(proto::GetStatusRequest {}).await;
        Ok(answer.map_err(|error| refused(&error))?.into_inner())
    };
    tokio::select! {
        answer = asked => answer,
        () = stop::told() => anyhow::bail!("told to stop before the node answered"),
    }
}
