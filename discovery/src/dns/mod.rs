//! Finds peers by DNS: domains of the operator's choice say where peers are, in TXT records of `_dnsaddr.<domain>`, each
//! `dnsaddr=<address>/p2p/<peer>` (the dnsaddr specification of multiformats). A record may lead to another name.
//!
//! Whoever writes the records, or sits between this host and its resolver, chooses what is answered: it is a wish, as all
//! that others say. `machine` decides when to look which name up, and is pure; `follow` follows records from name to name
//! within bounds; `resolver` asks. [`follow_bootstraps`] is the same for the nodes that a DHT is begun with.

mod follow;
mod machine;
mod resolver;

use std::time::Instant;

use libp2p::Multiaddr;
use tokio::task::JoinSet;

use self::{
    follow::{Answer, NoAnswer},
    machine::{Machine, Pace},
};
use crate::task::{self, Asker, Finds, Wish, Wishes};

/// Most domains: a typo or an attack would name more.
pub const DOMAINS_MAX: usize = 16;

/// Begins; ends when the asker is dropped. Must be called within a tokio runtime. Of more domains than
/// [`DOMAINS_MAX`] the first are asked.
pub(crate) fn start(domains: Vec<String>) -> Asker {
    let (asker, _, wanted, finds) = task::ends();
    tokio::spawn(run(Machine::new(domains, Pace::PEERS), wanted, finds));
    asker
}

type Ended = (String, Result<Answer, NoAnswer>);

async fn run(mut machine: Machine, mut wanted: Wishes, finds: Finds) {
    let mut lookups: JoinSet<Ended> = JoinSet::new();
    loop {
        look_up(&mut machine, &mut lookups);
        let found = tokio::select! {
            wish = wanted.recv() => match wish {
                Some(Wish::Seek(peer)) => machine.seek(peer, Instant::now()),
                Some(Wish::Forget { peer, .. }) => {
                    machine.forget(peer);
                    Vec::new()
                }
                Some(Wish::Listening(_) | Wish::Reachable(_)) => Vec::new(),
                None => return,
            },
            Some(Ok((domain, answer))) = lookups.join_next() => {
                take(&mut machine, &domain, answer);
                machine.found(Instant::now())
            }
            () = sleep_until(machine.poll_timeout()) => Vec::new(),
        };
        found.into_iter().for_each(|hint| finds.hand_on(hint));
    }
}

/// Follows the names of nodes to begin a DHT with, for as long as `tell` takes what they stand for now: it is told when
/// that changes, and returns false when it is over.
pub async fn follow_bootstraps(domains: Vec<String>, tell: impl AsyncFn(Vec<Multiaddr>) -> bool) {
    let mut machine = Machine::new(domains, Pace::BOOTSTRAPS);
    machine.wake(Instant::now());
    let (mut lookups, mut told): (JoinSet<Ended>, _) = (JoinSet::new(), Vec::new());
    loop {
        look_up(&mut machine, &mut lookups);
        tokio::select! {
            Some(Ok((domain, answer))) = lookups.join_next() => {
                take(&mut machine, &domain, answer);
            }
            () = sleep_until(machine.poll_timeout()) => {}
        }
        let all = machine.addresses();
        if all != told {
            told.clone_from(&all);
            if !tell(all).await {
                return;
            }
        }
    }
}

fn look_up(machine: &mut Machine, lookups: &mut JoinSet<Ended>) {
    while let Some(domain) = machine.poll(Instant::now()) {
        lookups.spawn(async move {
            let answer = follow::follow(&domain, |name| Box::pin(resolver::records(name))).await;
            (domain, answer)
        });
    }
}

fn take(machine: &mut Machine, domain: &str, answer: Result<Answer, NoAnswer>) {
    match &answer {
        Ok(answer) => tracing::debug!(%domain, addresses = answer.addresses.len(), "looked up by DNS"),
        Err(error) if machine.is_known_to_fail(domain) => {
            tracing::debug!(%domain, %error, "not found by DNS");
        }
        Err(error) => tracing::warn!(%domain, %error, "nobody is found by DNS"),
    }
    machine.answered(domain, answer.ok(), Instant::now());
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
