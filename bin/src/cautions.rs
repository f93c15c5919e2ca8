//! What works, and is hardly meant: it is said once, at the start.

use libp2p::{Multiaddr, multiaddr::Protocol};
use punchline_bridge::addr::GlobalScope;

use crate::{external, node::is_loopback};

/// Says so if this process runs as root and nobody allowed it.
pub(crate) fn of_root(allowed: bool) {
    if let Some(caution) = as_root(rustix::process::geteuid().is_root(), allowed) {
        tracing::warn!("{caution}");
    }
}

/// Says so if nobody elsewhere can come to where it listens, though others are told of it there.
pub(crate) fn of_loopback(listening: &[Multiaddr], told: impl IntoIterator<Item = Multiaddr>) {
    if let Some(caution) = on_loopback(listening, told) {
        tracing::warn!("{caution}");
    }
}

/// Says so if the addresses that the operator states lead nowhere for certain, or are told to hardly anybody.
pub(crate) fn of_external(stated: &[Multiaddr], listen: &[Multiaddr], global: &GlobalScope) {
    let cautions =
        [external::caution(stated, listen), external::private(stated, |ip| global.contains(ip))];
    for caution in cautions.into_iter().flatten() {
        tracing::warn!("{caution}");
    }
}

fn as_root(root: bool, allowed: bool) -> Option<&'static str> {
    (root && !allowed).then_some(
        "this runs as root, and nothing here needs that: whoever finds a hole in it has the whole machine. Give it a user of \
         its own, as the systemd units do, or say with --allow-root that it is meant",
    )
}

/// `told`: relays, nodes of a DHT and addresses outside, through which others learn of this node. A proxy on this machine may
/// stand before a WebSocket.
fn on_loopback(listening: &[Multiaddr], told: impl IntoIterator<Item = Multiaddr>) -> Option<String> {
    let is_web =
        |at: &Multiaddr| at.iter().any(|part| matches!(part, Protocol::Ws(_) | Protocol::Wss(_)));
    let is_alone = |at: &Multiaddr| is_loopback(at) && !is_web(at);
    let [first, ..] = listening else { return None };
    let elsewhere = told.into_iter().find(|other| !is_loopback(other))?;
    listening.iter().all(is_alone).then(|| {
        format!(
            "it listens on loopback alone ({first}), so no other host comes in there, though {elsewhere} leads others to it: \
             leave --listen out, or name an address of this host's network"
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn root_is_warned_of_once_unless_it_is_meant_and_nobody_else_is() {
        assert!(as_root(true, false).unwrap().contains("--allow-root"));
        assert_eq!(as_root(true, true), None);
        assert_eq!(as_root(false, false), None);
    }

    #[test]
    fn whoever_listens_on_loopback_alone_and_is_told_of_elsewhere_is_warned() {
        let loopback = [at("/ip4/127.0.0.1/tcp/4001"), at("/ip6/::1/udp/4001/quic-v1")];
        let relay = || at("/dns4/relay.example/tcp/4001");
        let caution = on_loopback(&loopback, [relay()]).unwrap();
        assert!(caution.contains("/ip4/127.0.0.1/tcp/4001") && caution.contains("relay.example"));
        assert_eq!(on_loopback(&loopback, [at("/ip4/127.0.0.1/tcp/9")]), None, "all on one machine");
        assert_eq!(on_loopback(&loopback, []), None, "nobody is told");
        let both = [loopback[0].clone(), at("/ip4/192.168.1.2/tcp/4001")];
        assert_eq!(on_loopback(&both, [relay()]), None);
        assert_eq!(on_loopback(&[], [relay()]), None);
        let behind_a_proxy = [at("/ip4/127.0.0.1/tcp/8080/ws")];
        assert_eq!(on_loopback(&behind_a_proxy, [relay()]), None);
    }
}
