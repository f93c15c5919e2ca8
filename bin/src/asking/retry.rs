//! `punchline retry`: a node tries now what waits for its next attempt.

use tonic::Code;

use crate::{
    Unusable, cli,
    control::{
        self,
        proto::{Retried, RetryRequest},
    },
    stop,
};

/// Asks it to, and prints what is tried.
///
/// # Errors
/// If no node answers, it knows nobody of that name, or it did so a moment ago.
pub(super) async fn run(settings: cli::Retry) -> anyhow::Result<()> {
    let peer = settings.peer.as_ref().map(ToString::to_string);
    let asked = async {
        let mut node = control::ask(&settings.asking).await?;
        Ok::<_, anyhow::Error>(node.retry(RetryRequest { peer }).await)
    };
    let answer = tokio::select! {
        answer = asked => answer?,
        () = stop::told() => anyhow::bail!("told to stop before the node answered"),
    };
    let retried = answer.map_err(|error| match error.code() {
        Code::ResourceExhausted | Code::Unimplemented => anyhow::anyhow!("{}", error.message()),
        Code::InvalidArgument => Unusable(error.message().to_owned()).into(),
        _ => super::refused(&error),
    })?;
    match settings.json {
        true => crate::print_line(&super::retried_json(retried.get_ref())?.to_string()),
        false => crate::print_line(&told(retried.get_ref())),
    }
}

fn told(retried: &Retried) -> String {
    let Retried { upgrades, relays, peers } = *retried;
    let parts = [
        (upgrades, "a direct path to 1 peer".to_owned(), format!("direct paths to {upgrades} peers")),
        (relays, "1 relay".to_owned(), format!("{relays} relays")),
        (peers, "1 peer that is missing".to_owned(), format!("{peers} peers that are missing")),
    ];
    let parts = parts.into_iter().filter(|(count, ..)| *count > 0);
    let parts: Vec<_> = parts.map(|(count, one, more)| if count == 1 { one } else { more }).collect();
    match parts.is_empty() {
        true => "nothing waits for a next attempt".to_owned(),
        false => format!("tried now: {}", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_is_counted_and_nothing_is_said_to_be_nothing() {
        let said = |upgrades, relays, peers| told(&Retried { upgrades, relays, peers });
        assert_eq!(said(0, 0, 0), "nothing waits for a next attempt");
        assert_eq!(said(1, 0, 2), "tried now: a direct path to 1 peer, 2 peers that are missing");
        assert_eq!(said(2, 1, 0), "tried now: direct paths to 2 peers, 1 relay");
    }
}
