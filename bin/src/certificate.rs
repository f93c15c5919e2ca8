//! The certificate that a relay shows on `/tls/ws`: the operator's, or one that is made for it and kept beside its
//! identity. Nodes take any, since what runs within proves who the relay is; browsers and other libp2p nodes want one that an
//! authority has signed.

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use punchline_bridge::relay::{Certificate, CertificateError};
use rcgen::{CertificateParams, KeyPair};

/// A chain of certificates takes some kilobytes.
const BYTES_MAX: u64 = 256 * 1024;

/// The key is nobody else's business.
const MODE: u32 = 0o600;

/// A certificate that is still being written; what a crash may leave behind.
const DRAFT_PREFIX: &str = ".certificate-";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// Only one of the two files was named.
    #[error(
        "--tls-cert and --tls-key belong together; name both files, or neither to have a certificate made"
    )]
    Half,
    /// A file cannot be read.
    #[error("cannot read {}: {cause}; name files in PEM with --tls-cert and --tls-key", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    /// It cannot be written.
    #[error("cannot keep the certificate in {}: {cause}; name one with --tls-cert and --tls-key", path.display())]
    Unwritable { path: PathBuf, cause: io::Error },
    /// It is too large to be one.
    #[error("{} has {bytes} bytes, which is no certificate or key", path.display())]
    Oversized { path: PathBuf, bytes: u64 },
    /// It is not what it should be.
    #[error("{}: {cause}", path.display())]
    Unusable { path: PathBuf, cause: CertificateError },
    /// It could not be made.
    #[error("cannot make a certificate: {0}; name one with --tls-cert and --tls-key")]
    Unmade(rcgen::Error),
}

/// The operator's: files in PEM.
pub(crate) fn given(chain: &Path, key: &Path) -> Result<Certificate, Fault> {
    let unusable = |cause| Fault::Unusable { path: chain.to_owned(), cause };
    Certificate::from_pem(&read(chain)?, &read(key)?).map_err(unusable)
}

/// The one that is kept at `path`; it is made, for the hosts of `addresses`, if there is none. Nothing is written for a
/// check.
pub(crate) fn own(path: &Path, addresses: &[Multiaddr], check: bool) -> Result<Certificate, Fault> {
    let pem = match read(path) {
        Err(Fault::Unreadable { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
            let made = make(addresses).map_err(Fault::Unmade)?;
            if !check {
                keep(path, &made)?;
            }
            made.into_bytes()
        }
        found => found?,
    };
    let unusable = |cause| Fault::Unusable { path: path.to_owned(), cause };
    Certificate::from_pem(&pem, &pem).map_err(unusable)
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let unreadable = |cause| Fault::Unreadable { path: path.to_owned(), cause };
    let bytes = fs::metadata(path).map_err(unreadable)?.len();
    if bytes > BYTES_MAX {
        return Err(Fault::Oversized { path: path.to_owned(), bytes });
    }
    fs::read(path).map_err(unreadable)
}

/// A certificate and its key in PEM, for the hosts that clients are told.
fn make(addresses: &[Multiaddr]) -> Result<String, rcgen::Error> {
    let host = |address: &Multiaddr| match address.iter().next()? {
        Protocol::Ip4(ip) if !ip.is_unspecified() => Some(ip.to_string()),
        Protocol::Ip6(ip) if !ip.is_unspecified() => Some(ip.to_string()),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Some(name.into_owned()),
        _ => None,
    };
    let mut hosts: Vec<String> = addresses.iter().filter_map(host).collect();
    hosts.dedup();
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(hosts)?.self_signed(&key)?;
    Ok(certificate.pem() + &key.serialize_pem())
}

/// Written beside its place and moved there, so that a crash leaves no half of it.
fn keep(path: &Path, pem: &str) -> Result<(), Fault> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let written = tempfile::Builder::new()
        .prefix(DRAFT_PREFIX)
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(directory)
        .and_then(|mut draft| {
            draft.write_all(pem.as_bytes())?;
            draft.as_file().sync_all()?;
            draft.persist(path).map_err(|error| error.error)
        });
    written.map(drop).map_err(|cause| Fault::Unwritable { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn addresses() -> Vec<Multiaddr> {
        vec![
            "/dns4/relay.example/tcp/443/tls/ws".parse().unwrap(),
            "/ip4/0.0.0.0/tcp/1".parse().unwrap(),
        ]
    }

    #[test]
    fn one_is_made_once_with_mode_0600_and_stays_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.tls");
        own(&path, &addresses(), true).unwrap();
        assert!(!path.exists(), "a check writes nothing");
        own(&path, &addresses(), false).unwrap();
        let first = fs::read(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        own(&path, &addresses(), false).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn what_is_no_certificate_is_refused_with_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let pem = make(&addresses()).unwrap();
        let other = make(&addresses()).unwrap();
        let (good, other) = (at("good", &pem), at("other", &other));
        let (empty, huge) = (at("empty", ""), at("huge", &"x".repeat(300_000)));
        assert!(given(&good, &good).is_ok());
        for (chain, key, wanted) in [
            (&empty, &good, "there is no certificate in PEM"),
            (&good, &empty, "there is no private key in PEM"),
            (&good, &other, "cannot be used together"),
            (&huge, &good, "300000 bytes"),
            (&directory.path().join("none"), &good, "cannot read"),
        ] {
            let error = given(chain, key).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
            assert!(!error.contains("PRIVATE"), "{error}");
        }
    }
}
