//! What can be found out on this host without anybody's help.

use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

use rustix::{
    net::sockopt::{ip_mtu, ipv6_mtu},
    process::{Resource, getrlimit},
};

use super::findings::{IdentityFinding, StateFinding, Unwritable};
use crate::{cli::Role, identity};

/// Addresses that only a default route leads to (RFC 5737, RFC 3849). Nothing is sent there.
const FAR_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 9);
const FAR_V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9);

/// The address that leads out over IPv4, and the largest packet that fits on the way.
pub(super) fn way_out_v4() -> Option<(IpAddr, Option<u32>)> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(FAR_V4).ok()?;
    Some((socket.local_addr().ok()?.ip(), ip_mtu(&socket).ok()))
}

/// Likewise over IPv6.
pub(super) fn way_out_v6() -> Option<(IpAddr, Option<u32>)> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(FAR_V6).ok()?;
    Some((socket.local_addr().ok()?.ip(), ipv6_mtu(&socket).ok()))
}

/// Files that this process may have open.
pub(super) fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// All roles whose identities lie in the user's state directory.
const ROLES: [Role; 5] = [Role::Expose, Role::Forward, Role::Relay, Role::Server, Role::Client];

/// The identity that was named; or those in the user's state directory.
pub(super) fn identities(named: Option<&Path>) -> Vec<IdentityFinding> {
    let look = |path: PathBuf| {
        let found =
            identity::load(&path).map(|found| found.is_some()).map_err(|error| error.to_string());
        IdentityFinding { path, found }
    };
    if let Some(path) = named {
        return vec![look(path.to_owned())];
    }
    let usual = ROLES.into_iter().filter_map(|role| identity::default_path(role.identity()).ok());
    usual.map(look).filter(|found| found.found != Ok(false)).collect()
}

/// The directory that identities are kept in; none if the user has no home.
pub(super) fn state(named: Option<&Path>) -> Option<StateFinding> {
    let path = named.map_or_else(
        || identity::default_path(Role::Expose.identity()).ok(),
        |path| Some(path.to_owned()),
    )?;
    let has_identity = path.exists();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new(".")).to_owned();
    // One that is not there is made at first use.
    let there = directory.ancestors().find(|directory| directory.exists());
    let there = there.filter(|there| !there.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let writable = write_to(there).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Unwritable::Full,
        _ => Unwritable::Refused { cause: error.to_string() },
    });
    Some(StateFinding { directory, writable, has_identity })
}

/// More than a file system keeps in a directory entry.
const TRIAL_BYTES: usize = 64 << 10;

/// Writes a file and removes it: what the system's tables say is not what a write comes to.
fn write_to(directory: &Path) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".doctor-").tempfile_in(directory)?;
    file.write_all(&[0; TRIAL_BYTES])?;
    file.as_file().sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_directory_that_is_not_there_yet_can_be_written_to_if_the_one_above_can() {
        let directory = tempfile::tempdir().unwrap();
        let state = state(Some(&directory.path().join("a/b/identity"))).unwrap();
        assert_eq!((state.writable, state.has_identity), (Ok(()), false));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing stays");
    }

    #[test]
    fn a_full_disk_is_told_from_one_that_may_not_be_written_to() {
        if Path::new("/dev/full").exists() {
            let mut full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            assert_eq!(full.write_all(&[0]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
        let state = state(Some(Path::new("/proc/identity"))).unwrap();
        assert!(matches!(state.writable, Err(Unwritable::Refused { .. })), "{state:?}");
    }

    #[test]
    fn an_identity_that_others_can_read_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        assert_eq!(identities(Some(&path))[0].found, Ok(false));
        identity::load_or_create(&path).unwrap();
        assert_eq!(identities(Some(&path))[0].found, Ok(true));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let found = identities(Some(&path)).remove(0).found.unwrap_err();
        assert!(found.contains("chmod 600"), "{found}");
    }
}
