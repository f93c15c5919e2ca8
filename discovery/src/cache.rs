//! Where sought peers were reached, on disk: one JSON file, replaced as a whole.
//!
//! An address comes in only after a handshake there proved the peer, so nobody writes here but who is sought. The file is
//! ours alone, and still nothing is believed of it: it is read up to a size, each entry by itself, and what does not make
//! sense is left out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::{
    hint::{Hint, Source},
    source::Lookup,
};

/// Peers that are remembered; the one that was reached longest ago makes room.
const PEERS_MAX: usize = 200;

/// Addresses of one peer, the latest first.
const ADDRESSES_MAX: usize = 8;

/// A file that is larger is not ours: 200 peers with 8 addresses are below 500 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What was not reached for so long is forgotten.
const LASTS: Duration = Duration::from_secs(30 * 24 * 3600);

/// What changed is written down after this, with what changes meanwhile.
const SAVE_AFTER: Duration = Duration::from_secs(5);

/// Where one peer was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    peer: String,
    /// The latest first.
    addresses: Vec<String>,
    /// When it was reached last, in seconds since 1970.
    reached: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Contents {
    #[serde(default)]
    peers: Vec<serde_json::Value>,
}

/// What is remembered of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reached {
    addresses: VecDeque<Multiaddr>,
    at: SystemTime,
}

type Peers = BTreeMap<PeerId, Reached>;

/// Reads what is remembered in a file, and remembers there. A file that is not there, or makes no sense, is empty.
pub(crate) fn open(path: PathBuf) -> (Remembered, Memory) {
    let peers = read(&path, SystemTime::now()).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "where peers were reached before is not known: the file is left out");
        Peers::new()
    });
    let found = VecDeque::new();
    let memory = Memory { path, peers: peers.clone(), due: None, writing: None, told: Arc::default() };
    (Remembered { peers, found }, memory)
}

/// What was remembered when this process began.
pub(crate) struct Remembered {
    peers: Peers,
    found: VecDeque<Hint>,
}

impl Lookup for Remembered {
    fn seek(&mut self, _: &BTreeSet<PeerId>, new: PeerId) {
        let Some(Reached { addresses, at }) = self.peers.remove(&new) else { return };
        let age = at.elapsed().unwrap_or_default();
        let (addresses, source, lasts) = (addresses.into(), Source::Cache, LASTS.checked_sub(age));
        self.found.push_back(Hint { peer: new, addresses, source, age, lasts });
    }

    fn poll_hint(&mut self, _: &mut Context<'_>) -> Poll<Hint> {
        self.found.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// What is to be remembered.
pub(crate) struct Memory {
    path: PathBuf,
    peers: Peers,
    due: Option<Instant>,
    writing: Option<JoinHandle<()>>,
    /// Whether it was said that nothing can be written down.
    told: Arc<AtomicBool>,
}

impl Memory {
    /// A dial there led to the peer.
    pub(crate) fn reached(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        if !self.peers.contains_key(&peer) && self.peers.len() >= PEERS_MAX {
            let oldest = self.peers.iter().min_by_key(|(_, reached)| reached.at).map(|(peer, _)| *peer);
            oldest.map(|oldest| self.peers.remove(&oldest));
        }
        let at = SystemTime::now();
        let empty = Reached { addresses: VecDeque::new(), at };
        let reached = self.peers.entry(peer).or_insert(empty);
        reached.at = at;
        reached.addresses.retain(|known| *known != address);
        reached.addresses.push_front(address);
        reached.addresses.truncate(ADDRESSES_MAX);
        self.due.get_or_insert(now + SAVE_AFTER);
    }

    /// Those that were reached last, at most so many.
    #[cfg(feature = "kad")]
    pub(crate) fn latest(&self, most: usize) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut peers: Vec<_> = self.peers.iter().collect();
        peers.sort_by_key(|(_, reached)| std::cmp::Reverse(reached.at));
        let addresses = |reached: &Reached| reached.addresses.iter().cloned().collect();
        peers.into_iter().take(most).map(|(peer, reached)| (*peer, addresses(reached))).collect()
    }

    /// When it is to be written down.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Begins to write down what changed, and does not wait for the disk. If that has not done the last time yet, it is tried
    /// again later; after a failure, with the next change.
    pub(crate) fn save(&mut self, now: Instant) {
        if self.due.take().is_none() {
            return;
        }
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            self.due = Some(now + SAVE_AFTER);
            return;
        }
        let (path, peers, told) = (self.path.clone(), self.peers.clone(), self.told.clone());
        let write = move || match write(&path, &peers) {
            Err(error) if !told.swap(true, Ordering::Relaxed) => {
                tracing::warn!(path = %path.display(), %error, "where peers are reached is not remembered");
            }
            Err(_) | Ok(()) => {}
        };
        self.writing = Some(tokio::task::spawn_blocking(write));
    }

    /// Writes down what is not yet, and returns when it is.
    pub(crate) async fn finish(&mut self) {
        if let Some(writing) = self.writing.take() {
            let _ = writing.await;
        }
        self.save(Instant::now());
        if let Some(writing) = self.writing.take() {
            let _ = writing.await;
        }
    }
}

fn read(path: &Path, now: SystemTime) -> io::Result<Peers> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Peers::new()),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let error = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    let contents: Contents = serde_json::from_slice(&text)?;
    let mut peers: Vec<_> =
        contents.peers.into_iter().filter_map(|entry| sensible(entry, now)).collect();
    peers.sort_by_key(|(_, reached)| std::cmp::Reverse(reached.at));
    peers.truncate(PEERS_MAX);
    Ok(peers.into_iter().collect())
}

/// One entry, if it makes sense and is not too old. A moment to come is none: a clock went back.
fn sensible(entry: serde_json::Value, now: SystemTime) -> Option<(PeerId, Reached)> {
    let Entry { peer, addresses, reached } = serde_json::from_value(entry).ok()?;
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(reached))?.min(now);
    let addresses: VecDeque<Multiaddr> =
        addresses.iter().take(ADDRESSES_MAX).filter_map(|address| address.parse().ok()).collect();
    let fresh = now.duration_since(at).is_ok_and(|age| age < LASTS);
    (fresh && !addresses.is_empty()).then_some((peer.parse().ok()?, Reached { addresses, at }))
}

/// Puts a new file in the place of the old one: whoever reads sees one or the other.
fn write(path: &Path, peers: &Peers) -> io::Result<()> {
    let entry = |(peer, reached): (&PeerId, &Reached)| {
        let addresses = reached.addresses.iter().map(ToString::to_string).collect();
        let at = reached.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        serde_json::to_value(Entry { peer: peer.to_string(), addresses, reached: at })
    };
    let contents = Contents { peers: peers.iter().map(entry).collect::<Result<_, _>>()? };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(&serde_json::to_vec_pretty(&contents)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::task::Waker;

    use super::*;

    fn at(port: usize) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers");
        (folder, path)
    }

    fn sought(path: &Path, peer: PeerId) -> Option<Hint> {
        let (mut remembered, _) = open(path.to_owned());
        remembered.seek(&BTreeSet::from([peer]), peer);
        match remembered.poll_hint(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(hint) => Some(hint),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn where_a_peer_was_reached_last_comes_first_when_it_is_sought_again() {
        let ((_folder, path), peer) = (file(), PeerId::random());
        let (_, mut memory) = open(path.clone());
        for port in [1, 2, 1] {
            memory.reached(peer, at(port), Instant::now());
        }
        assert!(memory.due().is_some());
        memory.finish().await;
        assert_eq!(memory.due(), None);
        memory.peers.get_mut(&peer).unwrap().at -= Duration::from_secs(3600);
        memory.due = Some(Instant::now());
        memory.finish().await;
        let hint = sought(&path, peer).unwrap();
        assert_eq!((hint.addresses, hint.source), (vec![at(1), at(2)], Source::Cache));
        assert!(
            hint.age.as_secs() / 60 == 60 && hint.lasts == LASTS.checked_sub(hint.age),
            "{:?}",
            hint.age
        );
        assert_eq!(sought(&path, PeerId::random()), None);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded_and_the_oldest_makes_room() {
        let ((_folder, path), first) = (file(), PeerId::random());
        let (_, mut memory) = open(path.clone());
        memory.reached(first, at(1), Instant::now());
        memory.peers.get_mut(&first).unwrap().at -= Duration::from_secs(60);
        for _ in 0..PEERS_MAX {
            memory.reached(PeerId::random(), at(1), Instant::now());
        }
        let busy = *memory.peers.keys().next().unwrap();
        (1..=100).for_each(|port| memory.reached(busy, at(port), Instant::now()));
        assert_eq!(
            (memory.peers.len(), memory.peers[&busy].addresses.len()),
            (PEERS_MAX, ADDRESSES_MAX)
        );
        memory.finish().await;
        assert_eq!(read(&path, SystemTime::now()).unwrap().len(), PEERS_MAX);
        assert_eq!(sought(&path, first), None);
        let addresses = sought(&path, busy).unwrap().addresses;
        assert_eq!((addresses.len(), &addresses[0]), (ADDRESSES_MAX, &at(100)));
    }

    #[tokio::test]
    async fn while_a_disk_is_not_done_nobody_waits_and_what_changes_is_written_later() {
        let ((_folder, path), peer, now) = (file(), PeerId::random(), Instant::now());
        let (_, mut memory) = open(path.clone());
        let (done, disk) = std::sync::mpsc::channel::<()>();
        memory.writing = Some(tokio::task::spawn_blocking(move || _ = disk.recv()));
        memory.reached(peer, at(1), now);
        memory.save(now);
        assert_eq!(memory.due(), Some(now + SAVE_AFTER));
        drop(done);
        memory.finish().await;
        assert!(sought(&path, peer).is_some());
    }

    #[tokio::test]
    async fn a_damaged_file_is_empty_and_replaced_by_the_next_one() {
        let ((_folder, path), peer) = (file(), PeerId::random());
        let reached = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let entry =
            serde_json::json!({ "peer": peer.to_string(), "addresses": [at(9)], "reached": reached });
        let mut huge = serde_json::json!({ "peers": [entry] }).to_string().into_bytes();
        huge.resize(FILE_BYTES_MAX as usize + 1, b' ');
        for damaged in [&b"{\"peers\": [{\"peer\""[..], b"\0\xff\xfe", b"[]", b"", &huge] {
            std::fs::write(&path, damaged).unwrap();
            let (_, mut memory) = open(path.clone());
            assert!(memory.peers.is_empty());
            memory.reached(peer, at(1), Instant::now());
            memory.finish().await;
            assert!(sought(&path, peer).is_some());
        }
    }

    #[tokio::test]
    async fn what_changes_all_the_time_is_written_so_long_after_its_first_change() {
        let ((_folder, path), now) = (file(), Instant::now());
        let (_, mut memory) = open(path);
        for second in 0..4 {
            memory.reached(PeerId::random(), at(1), now + Duration::from_secs(second));
        }
        assert_eq!(memory.due(), Some(now + SAVE_AFTER));
    }

    #[test]
    fn an_entry_that_makes_no_sense_does_not_take_the_others_with_it() {
        let ((_folder, path), peer) = (file(), PeerId::random());
        let entry = |peer: &str, address: &str, reached: u64| serde_json::json!({ "peer": peer, "addresses": [address], "reached": reached });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let other = PeerId::random().to_string();
        let peers = [
            entry("nobody", "/ip4/192.0.2.1/tcp/1", now),
            entry(&other, "nowhere", now),
            entry(&other, "/ip4/192.0.2.1/tcp/1", now - LASTS.as_secs() - 60),
            serde_json::json!({ "peer": other, "addresses": 7 }),
            serde_json::json!(null),
            entry(&peer.to_string(), "/ip4/192.0.2.1/tcp/1", u64::MAX / 4),
        ];
        std::fs::write(&path, serde_json::json!({ "peers": peers }).to_string()).unwrap();
        assert_eq!(sought(&path, other.parse().unwrap()), None);
        let hint = sought(&path, peer).unwrap();
        assert!(hint.age < Duration::from_secs(60), "the clock went back");
    }
}
