//! What this node signs of itself: numbers that never fall, written down before they are used.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use libp2p::identity::Keypair;

use crate::{
    Network, UnixTime,
    record::{Body, LIFETIME_MAX, Record, Sequence, SignError, Statement, sign},
};

/// The longest number that is read, in bytes.
const NUMBER_BYTES_MAX: usize = 20;

/// Signs records of this node.
pub(super) struct Signer {
    keypair: Keypair,
    network: Network,
    sequence: Sequence,
    /// Where the last number is written; none: nowhere, and the clock is what makes them rise.
    file: Option<PathBuf>,
}

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnError {
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("there is no higher number for a record")]
    Number,
}

impl Signer {
    pub(super) fn new(keypair: Keypair, network: Network, file: Option<PathBuf>) -> Self {
        let last = file.as_ref().and_then(|file| fs::read_to_string(file).ok());
        let last = last.filter(|last| last.len() <= NUMBER_BYTES_MAX + 1);
        let last = last.and_then(|last| last.trim().parse().ok()).unwrap_or(0);
        Self { keypair, network, sequence: Sequence::after(last), file }
    }

    pub(super) fn sign(&mut self, body: Body) -> Result<Record, OwnError> {
        self.sign_for(body, LIFETIME_MAX)
    }

    /// As [`Signer::sign`], for something that does not hold as long as it may.
    pub(super) fn sign_for(&mut self, body: Body, lasts: Duration) -> Result<Record, OwnError> {
        let issued = UnixTime::from(SystemTime::now());
        let sequence = self.sequence.next(issued).ok_or(OwnError::Number)?;
        self.write_down(sequence);
        let network = self.network.clone();
        Ok(sign(&self.keypair, Statement { network, sequence, issued, lasts, body })?)
    }

    /// Where that fails the clock makes the next process's numbers higher, unless it is set back meanwhile.
    fn write_down(&self, number: u64) {
        let Some(file) = &self.file else { return };
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let written = tempfile::NamedTempFile::new_in(folder.unwrap_or(std::path::Path::new(".")))
            .and_then(|mut new| {
                new.write_all(number.to_string().as_bytes())?;
                new.persist(file).map(drop).map_err(|error| error.error)
            });
        if let Err(error) = written {
            tracing::debug!(path = %file.display(), %error, "the number of the last record is not written down");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::Contact;

    #[test]
    fn numbers_rise_over_a_restart_also_if_the_clock_was_set_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        let (keypair, network) = (Keypair::generate_ed25519(), "test".parse::<Network>().unwrap());
        let mut ahead = Signer::new(keypair.clone(), network.clone(), Some(file.clone()));
        // The clock stood a day ahead.
        let day = UnixTime::from(SystemTime::now()).millis() + 86_400_000;
        ahead.sequence = Sequence::after(day);
        let before = ahead.sign(Body::Contact(Contact::default())).unwrap();
        let mut after = Signer::new(keypair, network, Some(file.clone()));
        let next = after.sign(Body::Contact(Contact::default())).unwrap();
        assert!(next.version().sequence > before.version().sequence);
        fs::write(&file, "nonsense").unwrap();
        assert_eq!(
            Signer::new(Keypair::generate_ed25519(), "test".parse().unwrap(), Some(file))
                .sequence
                .last(),
            0
        );
    }
}
