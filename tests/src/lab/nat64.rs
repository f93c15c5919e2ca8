//! A router that translates what its IPv6 hosts send for IPv4 ones: Debian's `tayga`, in the router's namespace.

use std::fs;
use std::net::Ipv6Addr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::command::{LabError, run};
use super::{Namespace, families};

/// A running `tayga`.
///
/// # Drop
///
/// Kills it.
#[derive(Debug)]
pub(super) struct Tayga {
    daemon: Child,
    _directory: TempDir,
}

impl Tayga {
    /// Starts it on router `index`.
    ///
    /// Each host gets an IPv4 address of [`POOL`], which the router then does with as with those of IPv4 hosts.
    pub(super) fn start(router: &Namespace, index: usize, prefix: Ipv6Addr) -> Result<Self, LabError> {
        let start =
            |source| LabError::Start { command: format!("{PROGRAM} on {}", router.name()), source };
        let directory = TempDir::new().map_err(start)?;
        let conf = directory.path().join("conf");
        let own = families::translator_v6(index);
        let text = format!(
            "tun-device {DEVICE}\nipv4-addr {OWN}\nipv6-addr {own}\nprefix {prefix}/96\ndynamic-pool {POOL}\ndata-dir {}\n",
            directory.path().display()
        );
        fs::write(&conf, text).map_err(start)?;
        run(router.command(PROGRAM).arg("--mktun").arg("-c").arg(&conf), None)?;
        router.configure(&format!(
            "link set {DEVICE} up\nroute add {POOL} dev {DEVICE}\nroute add {prefix}/96 dev {DEVICE}\n\
             route add {own}/128 dev {DEVICE}\n"
        ))?;
        let mut command = router.command(PROGRAM);
        command.arg("--nodetach").arg("-c").arg(&conf);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = command.spawn().map_err(start)?;
        Ok(Self { daemon, _directory: directory })
    }
}

impl Drop for Tayga {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Whether the program is installed that routers with [`RouterSpec::nat64`](super::RouterSpec::nat64) need.
pub fn has_nat64() -> bool {
    Command::new(PROGRAM).arg("--help").output().is_ok()
}

const PROGRAM: &str = "tayga";
/// As the rules of the router call it.
const DEVICE: &str = "nat64";
const OWN: &str = "192.168.255.1";
const POOL: &str = "192.168.255.0/24";

/// What translators lead to IPv4 that have no prefix of their own (RFC 6052).
pub const WELL_KNOWN_PREFIX: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
