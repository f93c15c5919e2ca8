//! Follows records from name to name, within bounds.

use std::{collections::BTreeSet, collections::VecDeque, time::Duration};

use futures::future::BoxFuture;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::time::timeout;

/// A record may lead to another name, whose records may lead to a third, and so on.
const DEPTH_MAX: usize = 4;

/// Names looked up for one domain in all.
const LOOKUPS_MAX: usize = 16;

/// Addresses taken from all of them together.
const ADDRESSES_MAX: usize = 64;

/// Bytes of an address: a circuit through a relay with a long name fits.
const ADDRESS_BYTES_MAX: usize = 512;

/// For all of them together.
const DEADLINE: Duration = Duration::from_secs(10);

/// What the records of one name say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Each ends in the id of its peer.
    pub(super) addresses: Vec<Multiaddr>,
    /// For so long it holds.
    pub(super) lasts: Duration,
}

/// Why a name says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    /// Nobody could be asked, or nobody answered.
    #[error("_dnsaddr.{name} cannot be looked up: {cause}; is the network up, and the name right?")]
    Unresolved { name: String, cause: String },
    /// It has no such records.
    #[error(
        "_dnsaddr.{name} has no TXT record that says dnsaddr=<address>/p2p/<peer id>; check that the name is right"
    )]
    NoRecord { name: String },
    /// It took too long.
    #[error("what _dnsaddr.{name} leads to was not looked up within {} s", DEADLINE.as_secs())]
    Deadline { name: String },
    /// It goes round in circles, or on and on.
    #[error(
        "the records of _dnsaddr.{name} lead from name to name: {LOOKUPS_MAX} of them, and {DEPTH_MAX} in a row, are the most"
    )]
    TooMany { name: String },
}

/// A name that is to be looked up.
struct Open {
    name: String,
    /// Who the record that led here says is there.
    peer: Option<PeerId>,
    depth: usize,
}

/// What a domain leads to. `ask` looks one name up.
pub(super) async fn follow(
    domain: &str,
    ask: impl Fn(String) -> BoxFuture<'static, Result<Answer, NoAnswer>>,
) -> Result<Answer, NoAnswer> {
    let followed = timeout(DEADLINE, walk(domain, ask)).await;
    followed.unwrap_or_else(|_| Err(NoAnswer::Deadline { name: domain.to_owned() }))
}

async fn walk(
    domain: &str,
    ask: impl Fn(String) -> BoxFuture<'static, Result<Answer, NoAnswer>>,
) -> Result<Answer, NoAnswer> {
    let (mut all, mut failure) = (Answer { lasts: Duration::MAX, ..Answer::default() }, None);
    let mut open = VecDeque::from([Open { name: domain.to_owned(), peer: None, depth: 1 }]);
    let (mut lookups, mut seen) = (0, BTreeSet::new());
    while let Some(Open { name, peer, depth }) = open.pop_front() {
        if !seen.insert((name.clone(), peer)) {
            continue;
        }
        lookups += 1;
        if lookups > LOOKUPS_MAX || depth > DEPTH_MAX {
            failure.get_or_insert(NoAnswer::TooMany { name: domain.to_owned() });
            continue;
        }
        let answer = match ask(name).await {
            Ok(answer) => answer,
            Err(error) => {
                failure.get_or_insert(error);
                continue;
            }
        };
        all.lasts = all.lasts.min(answer.lasts);
        for address in answer.addresses.into_iter().take(ADDRESSES_MAX) {
            let named = peer_of(&address);
            if peer.is_some() && named.is_some() && named != peer {
                continue;
            }
            match address.iter().next() {
                Some(Protocol::Dnsaddr(name)) => {
                    let (name, peer) = (name.into_owned(), named.or(peer));
                    open.push_back(Open { name, peer, depth: depth + 1 });
                }
                Some(_) if named.is_some() && all.addresses.len() < ADDRESSES_MAX => {
                    let new = !all.addresses.contains(&address);
                    if new && address.len() <= ADDRESS_BYTES_MAX {
                        all.addresses.push(address);
                    }
                }
                _ => {}
            }
        }
    }
    match (all.addresses.is_empty(), failure) {
        (false, _) => Ok(all),
        (true, failure) => {
            Err(failure.unwrap_or_else(|| NoAnswer::NoRecord { name: domain.to_owned() }))
        }
    }
}

/// The id at the end of an address.
pub(super) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        collections::BTreeMap,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// What each name says, and for how long.
    type Zone = BTreeMap<String, (Vec<String>, Duration)>;

    fn zone(names: &[(&str, &[String], u64)]) -> Zone {
        let all = names.iter();
        all.map(|(name, records, ttl)| ((*name).to_owned(), (records.to_vec(), S * *ttl as u32)))
            .collect()
    }

    async fn asked(zone: Zone, domain: &str) -> (Result<Answer, NoAnswer>, usize) {
        let (zone, count) = (Arc::new(zone), Arc::new(AtomicUsize::new(0)));
        let counted = count.clone();
        let ask = move |name: String| -> BoxFuture<'static, _> {
            counted.fetch_add(1, Ordering::Relaxed);
            let zone = zone.clone();
            Box::pin(async move {
                let Some((records, lasts)) = zone.get(&name) else {
                    return Err(NoAnswer::NoRecord { name });
                };
                let addresses = records.iter().map(|record| record.parse().unwrap()).collect();
                Ok(Answer { addresses, lasts: *lasts })
            })
        };
        (follow(domain, ask).await, count.load(Ordering::Relaxed))
    }

    fn at(port: usize, peer: PeerId) -> String {
        format!("/ip4/203.0.113.7/tcp/{port}/p2p/{peer}")
    }

    fn texts(answer: Answer) -> Vec<String> {
        answer.addresses.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn records_lead_to_peers_and_to_other_names_and_the_shortest_time_counts() {
        let (a, b) = (PeerId::random(), PeerId::random());
        let zone = zone(&[
            (
                "example.org",
                &[at(1, a), "/dnsaddr/b.example.org".into(), "/ip4/1.1.1.1/tcp/1".into()],
                300,
            ),
            ("b.example.org", &[at(2, b)], 60),
        ]);
        let (answer, lookups) = asked(zone, "example.org").await;
        let answer = answer.unwrap();
        assert_eq!((answer.lasts, lookups), (60 * S, 2));
        assert_eq!(texts(answer), [at(1, a), at(2, b)], "an address without a peer is none's");
    }

    #[tokio::test]
    async fn a_record_that_says_who_is_behind_a_name_lets_nobody_else_in() {
        let (a, b) = (PeerId::random(), PeerId::random());
        let zone = zone(&[
            ("example.org", &[format!("/dnsaddr/b.example.org/p2p/{a}")], 60),
            ("b.example.org", &[at(1, a), at(2, b)], 60),
        ]);
        assert_eq!(texts(asked(zone, "example.org").await.0.unwrap()), [at(1, a)]);
    }

    #[tokio::test]
    async fn names_that_lead_in_circles_or_on_and_on_end_within_their_bounds() {
        let circle = zone(&[
            ("a.org", &["/dnsaddr/b.org".into()], 60),
            ("b.org", &["/dnsaddr/a.org".into()], 60),
        ]);
        let (answer, lookups) = asked(circle, "a.org").await;
        assert_eq!((answer, lookups), (Err(NoAnswer::NoRecord { name: "a.org".into() }), 2));
        let name = |number: usize| format!("{number}.org");
        let on: Zone = (0..99)
            .map(|number| (name(number), (vec![format!("/dnsaddr/{}", name(number + 1))], S)))
            .collect();
        let (answer, lookups) = asked(on, "0.org").await;
        assert_eq!((answer, lookups), (Err(NoAnswer::TooMany { name: "0.org".into() }), DEPTH_MAX));
        let fan: Vec<String> = (0..99).map(|number| format!("/dnsaddr/{}", name(number))).collect();
        let (answer, lookups) = asked(zone(&[("fan.org", &fan, 60)]), "fan.org").await;
        assert!(answer.is_err());
        assert_eq!(lookups, LOOKUPS_MAX);
    }

    #[tokio::test]
    async fn of_many_addresses_only_so_many_are_taken() {
        let many: Vec<String> = (1..200).map(|port| at(port, PeerId::random())).collect();
        let (answer, _) = asked(zone(&[("many.org", &many, 60)]), "many.org").await;
        assert_eq!(texts(answer.unwrap()), many[..ADDRESSES_MAX]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_answers_holds_up_nothing_for_longer_than_the_deadline() {
        let answer = follow("slow.org", |_| Box::pin(std::future::pending())).await;
        assert_eq!(answer, Err(NoAnswer::Deadline { name: "slow.org".into() }));
    }
}
