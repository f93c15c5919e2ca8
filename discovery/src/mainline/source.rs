//! A source of hints: looks for the contacts of who is sought, and tells this node's.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use tokio::sync::watch;

#[cfg(feature = "pkarr")]
use super::records;
use super::{
    contact::{self, Contact, Unacceptable},
    driver::Search,
    face::{Config, Mainline},
    item::Item,
    lookup::{Then, Want},
    machine::Outcome,
};
use crate::{
    hint::{Hint, Source},
    plans::{Seeking, Telling},
    task::{self, Asker, Finds, Teller, Wish, Wishes},
};

/// The node, once it has its socket.
pub(crate) type Started = watch::Receiver<Option<Mainline>>;

/// Begins; ends when the first two are dropped. Must be called within a tokio runtime.
pub(crate) fn start(config: Config, key: Keypair) -> (Asker, Teller, Started) {
    let (asker, teller, wanted, finds) = task::ends();
    let finding = Finding::new(key, &config, wanted, finds);
    let (started, node_started) = watch::channel(None);
    tokio::spawn(async move {
        match Mainline::prepare(&config).await {
            Ok((node, driver)) => {
                tracing::info!(address = %node.local_address(), "in the 160-bit network");
                started.send_replace(Some(node));
                driver.finds_for(finding).run().await;
                started.send_replace(None);
            }
            Err(error) => {
                let cause = &error.cause;
                tracing::warn!(%error, %cause, "peers are not found in the 160-bit network");
            }
        }
    });
    (asker, teller, node_started)
}

/// What a search is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The contact of this peer.
    Contact(PeerId),
    /// This node's own, to learn its number: its clock may have been ahead of now once.
    Number,
    /// It is written.
    Told,
    /// The DNS records that this peer signed.
    #[cfg(feature = "pkarr")]
    Records(PeerId),
    /// This node's own.
    #[cfg(feature = "pkarr")]
    OwnRecords,
    /// They are written.
    #[cfg(feature = "pkarr")]
    RecordsTold,
}

pub(super) struct Finding {
    key: Keypair,
    public: bool,
    #[cfg(feature = "pkarr")]
    pkarr: bool,
    seeking: Seeking,
    telling: Telling,
    listening: Vec<Multiaddr>,
    reachable: Vec<Multiaddr>,
    /// What is being told.
    addresses: Vec<Multiaddr>,
    wanted: Wishes,
    finds: Finds,
}

impl Finding {
    fn new(key: Keypair, config: &Config, wanted: Wishes, finds: Finds) -> Self {
        let (seeking, telling, listening, reachable, addresses) = Default::default();
        Self {
            key,
            public: config.is_public(),
            #[cfg(feature = "pkarr")]
            pkarr: config.pkarr,
            seeking,
            telling,
            listening,
            reachable,
            addresses,
            wanted,
            finds,
        }
    }

    fn local(&self) -> PeerId {
        self.key.public().to_peer_id()
    }

    /// Takes a wish. False when there will be none any more.
    pub(super) async fn wishes(&mut self) -> bool {
        let Some(wish) = self.wanted.recv().await else { return false };
        let now = Instant::now();
        match wish {
            Wish::Seek(peer) if contact::key(peer).is_none() => {
                tracing::debug!(%peer, "not looked for in the 160-bit network: only ed25519 keys are found there");
            }
            Wish::Seek(peer) => self.seeking.seek(peer, now),
            Wish::Forget { peer, .. } => self.seeking.forget(peer),
            Wish::Listening(addresses) => self.listening = addresses,
            Wish::Reachable(addresses) => self.reachable = addresses,
        }
        self.telling.changed(contact::told(&self.reachable, &self.listening, self.public), now);
        true
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.seeking.poll_timeout().into_iter().chain(self.telling.poll_timeout()).min()
    }

    /// A search that is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Search, Step)> {
        if let Some(addresses) = self.telling.next(now) {
            self.addresses = addresses.to_vec();
            return match search(self.local()) {
                Some(search) => Some((search, Step::Number)),
                None => self.next(now),
            };
        }
        let peer = self.seeking.next(now)?;
        search(peer).map(|search| (search, Step::Contact(peer)))
    }

    /// A search ended. Returns the next one. `clock`: since 1970.
    pub(super) fn went_on(
        &mut self,
        step: Step,
        outcome: Outcome,
        now: Instant,
        clock: Duration,
    ) -> Option<(Search, Step)> {
        match (step, outcome) {
            (Step::Contact(peer), Outcome::Value(Some(item))) => {
                self.found(peer, contact::accept(&item, peer, clock), Source::Mainline);
            }
            #[cfg(feature = "pkarr")]
            (Step::Contact(peer), _) if self.pkarr => {
                return records::search(peer).map(|search| (search, Step::Records(peer)));
            }
            #[cfg(feature = "pkarr")]
            (Step::Records(peer), Outcome::Value(Some(item))) => {
                self.found(peer, records::accept(&item, peer, clock), Source::Pkarr);
            }
            (Step::Number, Outcome::Value(before)) => {
                let seq = number(before.as_ref(), clock.as_millis());
                if let Ok(item) = contact::sign(&self.key, &self.addresses, seq, clock) {
                    let then = Then::Put { item, replaces: None };
                    return search(self.local()).map(|search| (Search { then, ..search }, Step::Told));
                }
            }
            #[cfg(feature = "pkarr")]
            (Step::Told, Outcome::Stored(1..)) if self.pkarr => {
                return records::search(self.local()).map(|search| (search, Step::OwnRecords));
            }
            (Step::Told, Outcome::Stored(nodes)) => {
                tracing::debug!(nodes, "told the 160-bit network where this node is");
                self.telling.told(nodes > 0, now);
            }
            #[cfg(feature = "pkarr")]
            (Step::OwnRecords, Outcome::Value(before)) => {
                let seq = number(before.as_ref(), clock.as_micros());
                if let Some(item) = records::sign(&self.key, &self.addresses, before.as_ref(), seq) {
                    let then = Then::Put { item, replaces: None };
                    let search = records::search(self.local());
                    return search.map(|search| (Search { then, ..search }, Step::RecordsTold));
                }
                self.telling.told(false, now);
            }
            #[cfg(feature = "pkarr")]
            (Step::RecordsTold, Outcome::Stored(nodes)) => {
                tracing::debug!(nodes, "told the 160-bit network where this node is, also for pkarr");
                self.telling.told(nodes > 0, now);
            }
            #[cfg(feature = "pkarr")]
            (Step::OwnRecords | Step::RecordsTold, _) => self.telling.told(false, now),
            #[cfg(feature = "pkarr")]
            (Step::Records(_), _) => {}
            (Step::Number | Step::Told, _) => self.telling.told(false, now),
            (Step::Contact(_), _) => {}
        }
        None
    }

    /// A search could not begin.
    pub(super) fn failed(&mut self, step: &Step, now: Instant) {
        let tells = match step {
            Step::Contact(_) | Step::Number => false,
            Step::Told => true,
            #[cfg(feature = "pkarr")]
            Step::Records(_) => false,
            #[cfg(feature = "pkarr")]
            Step::OwnRecords | Step::RecordsTold => true,
        };
        if tells {
            self.telling.told(false, now);
        }
    }

    fn found(&self, peer: PeerId, said: Result<Contact, Unacceptable>, source: Source) {
        match said {
            Ok(Contact { addresses, age, lasts }) => {
                self.finds.hand_on(Hint { peer, addresses, source, age, lasts: Some(lasts) });
            }
            Err(why) => {
                tracing::debug!(%peer, %why, "what the 160-bit network says of a peer is not believed")
            }
        }
    }
}

/// The next number: greater than all before, also where this host's clock stepped back. `clock`: since 1970.
fn number(before: Option<&Item>, clock: u128) -> i64 {
    let after = before.map_or(0, |item| item.seq().saturating_add(1));
    i64::try_from(clock).unwrap_or(i64::MAX).max(after)
}

fn search(peer: PeerId) -> Option<Search> {
    let want = Want::Value { salt: contact::SALT.to_vec() };
    Some(Search { target: contact::target(peer)?, want, then: Then::Nothing, via: None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_rise_also_when_the_clock_steps_back() {
        let key = Keypair::generate_ed25519();
        let (clock, earlier) = (Duration::from_secs(1_800_000_000), Duration::from_secs(1_700_000_000));
        assert_eq!(number(None, clock.as_millis()), 1_800_000_000_000);
        let before = contact::sign(&key, &[], number(None, clock.as_millis()), clock).unwrap();
        assert_eq!(number(Some(&before), earlier.as_millis()), 1_800_000_000_001);
    }
}
