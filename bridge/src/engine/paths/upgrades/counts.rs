//! What all upgrades came to, counted. How many rows there are is bounded by what a row is for: a few words each of
//! which has a few values, whatever peers say.

use std::collections::BTreeMap;

use crate::{
    event::{Rung, UpgradeCount},
    nat::NatClass,
    path::Transport,
};

/// What an upgrade is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Outcome {
    pub(crate) local_nat: NatClass,
    pub(crate) remote_nat: NatClass,
    pub(crate) transport: Transport,
    pub(crate) rung: Rung,
}

/// Kinds of NAT at this end and at the other, transports, rungs.
#[cfg(test)]
const ROWS_MAX: usize = 9 * 9 * 3 * 7;

/// By outcome, how often.
#[derive(Debug, Default)]
pub(crate) struct UpgradeCounts(BTreeMap<Outcome, u64>);

impl UpgradeCounts {
    /// Once more.
    pub(crate) fn count(&mut self, outcome: Outcome) {
        let count = self.0.entry(outcome).or_default();
        *count = count.saturating_add(1);
    }

    /// All that was counted, one row for each outcome that there was.
    pub(crate) fn rows(&self) -> impl Iterator<Item = UpgradeCount> {
        self.0.iter().map(|(outcome, count)| {
            let Outcome { local_nat, remote_nat, transport, rung } = *outcome;
            UpgradeCount { local_nat, remote_nat, transport, rung, count: *count }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        endpoint::EVENTS_MAX,
        nat::{Filtering, Mapping, NatKind},
    };

    fn classes() -> BTreeSet<NatClass> {
        let mappings = [Mapping::None, Mapping::EndpointIndependent, Mapping::DestinationDependent];
        let filterings = [
            Filtering::EndpointIndependent,
            Filtering::AddressDependent,
            Filtering::AddressAndPortDependent,
        ];
        let mappings = mappings.map(Some).into_iter().chain([None]);
        let filterings = || filterings.map(Some).into_iter().chain([None]);
        let kinds = mappings
            .flat_map(|mapping| filterings().map(move |filtering| NatKind { mapping, filtering }));
        kinds.map(NatKind::class).collect()
    }

    /// One of each.
    fn outcomes() -> Vec<Outcome> {
        let rungs = [
            Rung::Lan,
            Rung::Punch,
            Rung::Reversal,
            Rung::Mapped,
            Rung::Known,
            Rung::Inbound,
            Rung::Relay,
        ];
        let mut outcomes = Vec::new();
        for (local_nat, remote_nat) in
            classes().iter().flat_map(|ours| classes().into_iter().map(|theirs| (*ours, theirs)))
        {
            for transport in [Transport::Tcp, Transport::Quic, Transport::Websocket] {
                let of = |rung| Outcome { local_nat, remote_nat, transport, rung };
                outcomes.extend(rungs.map(of));
            }
        }
        outcomes
    }

    #[test]
    fn whatever_peers_say_there_are_no_more_rows_than_a_reader_of_events_may_lag_behind() {
        let mut counts = UpgradeCounts::default();
        for outcome in outcomes().iter().chain(&outcomes()) {
            counts.count(*outcome);
        }
        let rows: Vec<_> = counts.rows().collect();
        assert_eq!(rows.len(), ROWS_MAX);
        assert!(rows.iter().all(|row| row.count == 2));
        assert!(rows.len() < EVENTS_MAX);
    }
}
