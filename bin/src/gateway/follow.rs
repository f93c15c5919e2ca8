//! To whom a forward leads, where that is found out while it runs: the members of a namespace, or whoever answers for an
//! authority.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use punchline_bridge::{Endpoint, Service};
use punchline_discovery::{
    kad::{Dht, Event},
    keys::Namespace,
};
use tokio::{
    sync::broadcast::error::RecvError,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    forward::Forward,
    whom::{Candidates, Change, Whom},
};
use crate::{finding::Finder, report::Reporter};

/// Between two looks at who is still there.
const TEND: Duration = Duration::from_secs(2);

/// Who answers for an authority is looked up again after the first, doubled up to the second: so late a change is seen.
const AUTHORITY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What follows them.
pub(super) struct Following {
    /// One, or one for each place.
    pub(super) forwards: Vec<Arc<Forward>>,
    pub(super) candidates: Arc<Candidates>,
    pub(super) service: Service,
    pub(super) endpoint: Endpoint,
    pub(super) finder: Finder,
    pub(super) reporter: Reporter,
    /// Where the addresses are written at which somebody is.
    pub(super) file: Option<PathBuf>,
}

/// A member, and whether it says that it serves what is wanted, if it says what it serves.
type Said = (PeerId, Option<bool>);

impl Following {
    /// Follows them until it is dropped.
    pub(super) async fn run(self, whom: Whom) {
        let Some(dht) = self.finder.dht().cloned() else { return };
        // What an earlier process wrote leads nowhere.
        self.write_down().await;
        match whom {
            Whom::Peer(_) => {}
            Whom::Authority(authority) => self.authority(&dht, authority).await,
            Whom::Members(namespaces) => self.members(&dht, &namespaces).await,
        }
    }

    async fn members(&self, dht: &Dht, namespaces: &[Namespace]) {
        let mut events = dht.events();
        for namespace in namespaces {
            dht.watch(namespace.clone()).await;
        }
        let ours = |namespace: &Namespace| namespaces.iter().any(|ours| ours.name() == namespace.name());
        // Who is in two of them is not gone with one.
        let mut memberships: BTreeSet<(PeerId, String)> = BTreeSet::new();
        let mut asked: JoinSet<Said> = JoinSet::new();
        let mut tick = interval(TEND);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(Event::MemberFound { namespace, peer }) if ours(&namespace) && peer != self.endpoint.peer_id() => {
                        memberships.insert((peer, namespace.name().to_owned()));
                        self.candidates.found(peer);
                    }
                    Ok(Event::MemberLost { namespace, peer }) if ours(&namespace) => {
                        memberships.remove(&(peer, namespace.name().to_owned()));
                        if !memberships.iter().any(|(other, _)| *other == peer) {
                            self.candidates.lost(peer);
                        }
                    }
                    Err(RecvError::Closed) => return,
                    Ok(_) | Err(RecvError::Lagged(_)) => continue,
                },
                Some(said) = asked.join_next() => match said {
                    Ok((peer, Some(serves))) => self.candidates.says(peer, serves),
                    Ok((_, None)) | Err(_) => continue,
                },
                _ = tick.tick() => {}
            }
            for peer in self.tend().await {
                asked.spawn(said(dht.clone(), peer, self.service.clone()));
            }
        }
    }

    async fn authority(&self, dht: &Dht, authority: PeerId) {
        let (mut known, mut pause) = (None, AUTHORITY.0);
        loop {
            match dht.find_authority(authority).await {
                Some(peer) if known != Some(peer) && peer != self.endpoint.peer_id() => {
                    tracing::info!("authority:{authority} is {peer}");
                    if let Some(before) = known {
                        self.candidates.lost(before);
                    }
                    self.candidates.found(peer);
                    known = Some(peer);
                    self.tend().await;
                    pause = AUTHORITY.1;
                }
                Some(_) => pause = AUTHORITY.1,
                None => pause = (pause * 2).min(AUTHORITY.1),
            }
            sleep(pause).await;
        }
    }

    /// Fills the places. Returns those who are followed from now on.
    async fn tend(&self) -> Vec<PeerId> {
        let status = self.endpoint.status().await;
        let connected = |peer: PeerId| {
            status.as_ref().is_none_or(|status| status.peers.iter().any(|found| found.peer == peer))
        };
        let first = self.candidates.last(None).is_none();
        let changes = self.candidates.tend(connected, Instant::now());
        if changes.is_empty() {
            return Vec::new();
        }
        let mut new = Vec::new();
        for change in changes {
            match change {
                Change::Leave(peer) => self.finder.leave(peer).await,
                Change::Follow(peer, place) => {
                    self.reporter.knows([peer]);
                    self.finder.seek(peer, Vec::new()).await;
                    new.push((peer, place));
                }
            }
        }
        // Whoever hears of a member finds it in the list.
        self.write_down().await;
        for (at, (peer, place)) in new.iter().enumerate() {
            // All together have one address, or each has its own.
            match &self.forwards[..] {
                [one] if one.is_shared() && !(first && at == 0) => {}
                [one] => one.announce(Some(*peer)),
                each => each.get(*place).into_iter().for_each(|forward| forward.announce(Some(*peer))),
            }
        }
        new.into_iter().map(|(peer, _)| peer).collect()
    }

    async fn write_down(&self) {
        let Some(file) = self.file.clone() else { return };
        let places = self.candidates.places().into_iter().zip(&self.forwards);
        let list: String = places
            .filter(|(peer, _)| peer.is_some())
            .map(|(_, forward)| format!("{}\n", forward.local()))
            .collect();
        let written = tokio::task::spawn_blocking(move || {
            let written = write(&file, &list);
            written.map_err(|error| format!("--addresses-file {}: {error}", file.display()))
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!("{error}");
        }
    }
}

/// Whole or not at all: whoever reads it meanwhile reads a list.
fn write(file: &Path, list: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut new = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    new.write_all(list.as_bytes())?;
    new.persist(file).map(drop).map_err(|error| error.error)
}

async fn said(dht: Dht, peer: PeerId, service: Service) -> Said {
    let record = dht.find_peer(peer).await;
    let services = record.as_ref().and_then(|record| record.contact()).map(|contact| &contact.services);
    let serves = services.filter(|services| !services.is_empty());
    (peer, serves.map(|services| services.iter().any(|other| other == service.as_str())))
}
