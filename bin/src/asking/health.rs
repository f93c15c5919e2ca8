//! `punchline health` and `punchline wait-ready`: whether a node is usable.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    cli,
    control::proto::{Bootstrap, Relaying, Status},
    progress,
    shapes::{self, versioned},
    stop,
};

/// Between two questions of one who waits.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// Prints it, unless `quiet` and all is well.
///
/// # Errors
/// If the node is not usable, or none answers.
pub(super) async fn run(settings: cli::Health, quiet: bool) -> anyhow::Result<()> {
    let status = super::status(&settings.asking).await?;
    if settings.json {
        crate::print_line(&health_json(&status).to_string())?;
    }
    match status.hindrance {
        Some(hindrance) => anyhow::bail!("not usable: {hindrance}"),
        None if settings.json => Ok(()),
        None if quiet => Ok(()),
        None => crate::print_line(&usable(&status)),
    }
}

pub(super) fn health_json(status: &Status) -> Value {
    let health = json!({ "usable": status.hindrance.is_none(), "hindrance": status.hindrance });
    versioned(shapes::HEALTH, health)
}

fn usable(status: &Status) -> String {
    if let Some(Relaying { connections, reservations, circuits, .. }) = &status.relaying {
        return format!(
            "usable: {connections} connections, {reservations} places held, {circuits} circuits"
        );
    }
    let held = status.relays.iter().filter(|relay| relay.state == "reserved").count();
    let (relays, peers) = (status.relays.len(), status.peers.len());
    format!("usable: {held} of {relays} relays hold a place, {peers} peers connected")
}

/// Asks until it is. On a terminal it shows meanwhile what it waits for, unless that is to be `quiet`.
///
/// # Errors
/// If it is not after the timeout; with what it waited for.
pub(super) async fn wait(settings: cli::WaitReady, quiet: bool) -> anyhow::Result<()> {
    let waits_for = Mutex::new("the node to answer".to_owned());
    let doing = || waits_for.lock().unwrap_or_else(PoisonError::into_inner).clone();
    progress::beside(quiet, doing, asked_until_ready(settings, &waits_for)).await
}

async fn asked_until_ready(settings: cli::WaitReady, shown: &Mutex<String>) -> anyhow::Result<()> {
    let timeout = settings.timeout.duration();
    let until = Instant::now() + timeout;
    loop {
        let waits_for = match timeout_at(until, super::status(&settings.asking)).await {
            Ok(Ok(status)) => match missing(&status, settings.in_dht) {
                None => return Ok(()),
                Some(missing) => missing,
            },
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "the node does not answer".to_owned(),
        };
        shown.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&waits_for);
        if Instant::now() >= until {
            anyhow::bail!("not usable after {timeout:?}: {waits_for}");
        }
        tokio::select! {
            () = sleep(ASK_INTERVAL) => {}
            () = stop::told() => anyhow::bail!("told to stop while waiting: {waits_for}"),
        }
    }
}

/// What there is to wait for. `joined`: the DHT, too.
fn missing(status: &Status, joined: bool) -> Option<String> {
    status.hindrance.clone().or_else(|| joined.then(|| outside(status)).flatten())
}

/// What keeps it from the DHT.
fn outside(status: &Status) -> Option<String> {
    let Some(dht) = &status.dht else {
        return Some(
            "the node takes no part in a DHT; start it with --bootstrap <a node of it>".to_owned(),
        );
    };
    if dht.joined && dht.buckets.iter().any(|bucket| bucket.nodes > 0) {
        return None;
    }
    let network = &dht.network;
    let other = |node: &&Bootstrap| node.network.as_ref().is_some_and(|of| of != network);
    if let Some(Bootstrap { address, network: Some(of), .. }) = dht.bootstraps.iter().find(other) {
        return Some(format!(
            "{address} is a node of the network `{of}`, not of `{network}` (--dht-network)"
        ));
    }
    let down = |node: &Bootstrap| node.health == "down";
    match dht.bootstraps.first() {
        Some(first) if dht.bootstraps.iter().all(down) => {
            Some(format!("no bootstrap node of the DHT answers, {} neither", first.address))
        }
        _ => Some("the node has not joined the DHT yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory as _;
    use punchline_bridge::status::USABLE;

    use super::{Bootstrap, Status, missing};
    use crate::control::proto::{Bucket, Dht};

    #[test]
    fn who_waits_for_the_dht_is_told_why_the_node_is_not_in_it() {
        let with = |dht: Option<Dht>| missing(&Status { dht, ..Status::default() }, true);
        let node = |health: &str, network: Option<&str>| Bootstrap {
            address: "/ip4/203.0.113.7/tcp/4002".to_owned(),
            health: health.to_owned(),
            network: network.map(str::to_owned),
            ..Bootstrap::default()
        };
        let dht = |bootstrap: Bootstrap| Dht {
            network: "main".to_owned(),
            bootstraps: vec![bootstrap],
            ..Dht::default()
        };
        assert!(with(None).unwrap().contains("--bootstrap"));
        for (bootstrap, words) in [
            (node("down", None), "no bootstrap node of the DHT answers, /ip4/203.0.113.7"),
            (node("healthy", Some("other")), "of the network `other`, not of `main`"),
            (node("unknown", None), "not joined the DHT yet"),
        ] {
            let said = with(Some(dht(bootstrap))).unwrap();
            assert!(said.contains(words), "{said}");
        }
        let buckets = vec![Bucket { index: 255, nodes: 1 }];
        let inside = Dht { joined: true, buckets, ..Dht::default() };
        assert_eq!(with(Some(inside)), None);
        assert_eq!(missing(&Status::default(), false), None, "nobody asked for the DHT");
        let hindrance = Some("no relay".to_owned());
        let status = Status { hindrance, ..Status::default() };
        assert_eq!(missing(&status, true).as_deref(), Some("no relay"));
    }

    /// Without marks of comments and breaks of lines.
    fn plain(text: &str) -> String {
        text.split_whitespace().filter(|word| *word != "//").collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_help_and_the_documents_say_in_one_sentence_when_a_node_is_usable() {
        let command = crate::cli::Cli::command();
        let waits = command.find_subcommand("wait-ready").unwrap();
        let help = waits.get_about().unwrap().to_string() + ".";
        for (place, text) in [
            ("punchline wait-ready --help", &*help),
            ("node.proto", include_str!("../../proto/node.proto")),
            ("metrics.md", include_str!("../../../design/metrics.md")),
            ("operate.md", include_str!("../../../design/operate.md")),
        ] {
            assert!(plain(text).contains(USABLE), "{place} does not say: {USABLE}");
        }
    }
}
