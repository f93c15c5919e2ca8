//! Looks names of relays up for the engine: which addresses and identities the TXT records of `_dnsaddr.<name>` tell.
//!
//! Whoever writes the records, or sits between the node and its resolver, chooses what is answered: how many records
//! count, how many lookups they may lead to and how long all of it may take is bounded here. What may be dialled of it,
//! the engine decides.

use std::{collections::VecDeque, future::pending, time::Duration};

use futures::future::{BoxFuture, FutureExt as _};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::{task::JoinSet, time::timeout};

use super::{
    guard::Permits,
    names::{NameError, Names},
};
use crate::{
    addr::{RelayAddr, RelayLocator, RelayName, dialable, peer_of},
    engine::input::{Input, Resolved},
};

/// A record may lead to another name, whose records may lead to a third, and so on.
const DEPTH_MAX: usize = 4;

/// Lookups for one name in all.
const LOOKUPS_MAX: usize = 16;

/// For all of them together.
const DEADLINE: Duration = Duration::from_secs(10);

/// The lookups under way.
pub(crate) struct Client {
    permits: Permits,
    names: Names,
    lookups: JoinSet<Input>,
}

impl Client {
    /// `permits` is told which relays the operator's names stand for.
    pub(crate) fn new(permits: Permits) -> Self {
        Self { permits, names: Names::default(), lookups: JoinSet::new() }
    }

    /// Looks a name up. `given`: by the operator.
    pub(crate) fn resolve(&mut self, name: RelayName, given: bool) {
        let (names, permits) = (self.names.clone(), self.permits.clone());
        self.lookups.spawn(async move {
            let resolved = resolve(names, name).await;
            if given {
                resolved.relays.iter().for_each(|relay| permits.resolved_relay(relay));
            }
            Input::RelaysResolved(resolved)
        });
    }

    /// What the engine is to be told next. Nothing is lost if it is not waited for.
    pub(crate) async fn heard(&mut self) -> Input {
        loop {
            match self.lookups.join_next().await {
                Some(Ok(resolved)) => return resolved,
                // A panic in a task has been reported by the runtime.
                Some(Err(_)) => {}
                None => pending().await,
            }
        }
    }
}

/// What a name of relays stands for; at most [`Resolved::RELAYS_MAX`] addresses, or why there is none.
pub(crate) async fn resolve(names: Names, name: RelayName) -> Resolved {
    let host = name.as_str();
    let ask = move |host: String| {
        let names = names.clone();
        async move { names.records(&host).await }.boxed()
    };
    let follow = follow(host, ask);
    let outcome = timeout(DEADLINE, follow).await.unwrap_or_else(|_| {
        Err(format!("what _dnsaddr.{host} leads to was not looked up within {} s", DEADLINE.as_secs()))
    });
    match outcome {
        Ok(relays) => Resolved { name, relays, failure: None },
        Err(failure) => Resolved { name, relays: Vec::new(), failure: Some(failure) },
    }
}

/// A name that is to be looked up.
struct Open {
    host: String,
    /// Who the record that led here says must answer.
    peer: Option<PeerId>,
    depth: usize,
}

/// Follows records to addresses of relays. `ask` looks one name up.
async fn follow(
    host: &str,
    ask: impl Fn(String) -> BoxFuture<'static, Result<Vec<Multiaddr>, NameError>>,
) -> Result<Vec<RelayAddr>, String> {
    let (mut found, mut unusable, mut failure) = (Vec::new(), None, None);
    let mut open = VecDeque::from([Open { host: host.to_owned(), peer: None, depth: 1 }]);
    let mut lookups = 0;
    while let Some(Open { host, peer, depth }) = open.pop_front() {
        lookups += 1;
        if lookups > LOOKUPS_MAX || depth > DEPTH_MAX {
            failure.get_or_insert_with(|| {
                format!(
                    "its records lead from name to name: {LOOKUPS_MAX} of them, and {DEPTH_MAX} in a row, are the most"
                )
            });
            continue;
        }
        let records = match ask(host).await {
            Ok(records) => records,
            Err(error) => {
                failure.get_or_insert_with(|| error.to_string());
                continue;
            }
        };
        for record in records.into_iter().take(Resolved::RELAYS_MAX) {
            let fits = |found: PeerId| peer.is_none_or(|wanted| wanted == found);
            match leads_to(record) {
                Record::Name { host, peer: named } if named.is_none_or(fits) => {
                    open.push_back(Open { host, peer: named.or(peer), depth: depth + 1 });
                }
                Record::Relay(relay) if fits(relay.peer()) && found.len() < Resolved::RELAYS_MAX => {
                    found.push(relay);
                }
                Record::Unusable(why) => unusable = Some(why),
                Record::Name { .. } | Record::Relay(_) => {}
            }
        }
    }
    match found.is_empty() {
        false => Ok(found),
        true => Err(failure
            .or(unusable)
            .unwrap_or_else(|| format!("no TXT record of _dnsaddr.{host} leads to a relay; {FORM}"))),
    }
}

const FORM: &str = "it has to say dnsaddr=/ip4/<address>/tcp/<port>/p2p/<relay's peer id>";

enum Record {
    Relay(RelayAddr),
    Name { host: String, peer: Option<PeerId> },
    Unusable(String),
}

fn leads_to(record: Multiaddr) -> Record {
    if let Some(Protocol::Dnsaddr(host)) = record.iter().next() {
        return Record::Name { host: host.into_owned(), peer: peer_of(&record) };
    }
    match RelayLocator::new(record.clone()) {
        Ok(RelayLocator::At(relay)) => match dialable(relay.address()) {
            Ok(()) => Record::Relay(relay),
            Err(fault) => Record::Unusable(format!("its record {record} cannot be dialled: it {fault}")),
        },
        Ok(RelayLocator::Named(name)) => Record::Name { host: name.as_str().to_owned(), peer: None },
        Err(error) => Record::Unusable(format!("its record is of no use: {error}")),
    }
}

#[cfg(test)]
mod tests;
