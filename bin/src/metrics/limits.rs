//! Limits, and how full they are.

use punchline_bridge::{Status, config::Limits, status::LimitStatus};

use super::families::{Book, Gauges};

/// A limit at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(super) name: &'static str,
    pub(super) used: u64,
    pub(super) max: u64,
}

fn limit(name: &'static str, used: usize, max: usize) -> Limit {
    Limit { name, used: used as u64, max: max as u64 }
}

/// Those that a status tells.
pub(super) fn told(limits: &[LimitStatus]) -> Vec<Limit> {
    let told = |limit: &LimitStatus| Limit { name: limit.what, used: limit.used, max: limit.limit };
    limits.iter().map(told).collect()
}

/// Those of a node. Of limits that each peer has, the fullest.
pub(super) fn of_node(status: &Status, limits: &Limits) -> Vec<Limit> {
    let streams = |peer| status.streams.iter().filter(|stream| stream.peer == peer).count();
    let fullest = status.peers.iter().map(|peer| peer.connections.len()).max();
    let busiest = status.peers.iter().map(|peer| streams(peer.peer)).max();
    let mut all = told(&status.limits);
    let connections_max = limits.connections_per_peer as usize;
    all.push(limit("connections_per_peer", fullest.unwrap_or_default(), connections_max));
    all.push(limit("streams_per_peer", busiest.unwrap_or_default(), limits.streams_per_peer));
    all
}

/// How many files the process has open, sockets among them, and how many it may have; none where the system does not
/// tell.
pub(super) fn open_files() -> Option<Limit> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    let max = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    // Whoever counts has one open itself.
    Some(Limit { name: "open_files", used: open.saturating_sub(1) as u64, max })
}

/// The gauges.
#[derive(Default)]
pub(super) struct Fullness {
    used: Gauges<1>,
    max: Gauges<1>,
}

impl Fullness {
    pub(super) fn register(&self, book: &mut Book<'_>) {
        book.add(
            "limit_used",
            "How much of a limit is used, by limit: of those that each peer has, by the peer that uses most; of names that \
             end in _bytes, bytes. Looked at when this is asked for. Divide by punchline_limit_max with the same limit; who is \
             turned away at 1 is in punchline_refused_total",
            self.used.clone(),
        );
        book.add(
            "limit_max",
            "What a limit allows; stays as it was at the start. Divide punchline_limit_used by it. Its settings are in `punchline \
             <command> --help`",
            self.max.clone(),
        );
    }

    pub(super) fn observe(&self, limits: &[Limit]) {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for Limit { name, used, max } in limits {
            self.used.get_or_create(&[("limit", name)]).set(whole(*used));
            self.max.get_or_create(&[("limit", name)]).set(whole(*max));
        }
    }
}
