//! Whether a peer runs on this very host, proven: only there it can know what the system says of itself.

use std::fs;

use libp2p::PeerId;
use sha2::{Digest, Sha256};

/// What every process on this host with the same network, and nobody else, can know: the random id that
/// Linux chooses at each start, and the name of the network namespace. None on other systems: two processes
/// there meet by another address than loopback.
#[derive(Clone)]
pub(crate) struct Host(Option<Vec<u8>>);

impl Host {
    /// Asks the system.
    pub(crate) fn this() -> Self {
        Self::read().unwrap_or(Self(None))
    }

    fn read() -> Option<Self> {
        let boot = fs::read("/proc/sys/kernel/random/boot_id").ok().filter(|id| !id.is_empty())?;
        let network = fs::read_link("/proc/self/ns/net").ok()?;
        Some(Self(Some([boot, network.into_os_string().into_encoded_bytes()].concat())))
    }

    /// What `from` says to `to`. It means nothing to anybody else, and does not tell what it is made of.
    pub(crate) fn proof(&self, from: PeerId, to: PeerId) -> Option<[u8; 32]> {
        let secret = self.0.as_ref()?;
        let mut hash = Sha256::new();
        for part in [&b"punchline host"[..], secret, &from.to_bytes(), &to.to_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Some(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_on_one_host_for_one_pair_in_one_direction() {
        let (a, b) = (PeerId::random(), PeerId::random());
        let (here, there) = (Host(Some(b"here".to_vec())), Host(Some(b"there".to_vec())));
        assert_eq!(here.proof(a, b), here.clone().proof(a, b));
        assert_ne!(here.proof(a, b), here.proof(b, a), "an echo proves nothing");
        assert_ne!(here.proof(a, b), here.proof(a, PeerId::random()));
        assert_ne!(here.proof(a, b), there.proof(a, b));
        assert_eq!(Host(None).proof(a, b), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn two_processes_of_a_linux_host_know_the_same() {
        let (a, b) = (PeerId::random(), PeerId::random());
        assert!(Host::this().proof(a, b).is_some());
        assert_eq!(Host::this().proof(a, b), Host::this().proof(a, b));
    }
}
