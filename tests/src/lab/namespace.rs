//! One machine of the lab: a network namespace with a name and an address.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, getpid, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::command::{LabError, ip, json, run};
use super::families::Families;

/// A machine of the lab.
///
/// # Drop
///
/// Kills what still runs in the namespace and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    address: Ipv4Addr,
    address_v6: Option<Ipv6Addr>,
    has_v4: bool,
}

impl Namespace {
    /// Adds a namespace without links, except for `lo`, which is up.
    pub(super) fn add(
        name: String,
        address: Ipv4Addr,
        address_v6: Ipv6Addr,
        families: Families,
    ) -> Result<Self, LabError> {
        run(ip().args(["netns", "add", &name]), None)?;
        let address_v6 = families.has_v6().then_some(address_v6);
        let namespace = Self { name, address, address_v6, has_v4: families.has_v4() };
        namespace.configure("link set lo up\n")?;
        if families.has_v6() {
            namespace.settle_v6()?;
        } else {
            // Neighbour discovery would add noise to the byte counters.
            let _ = namespace.sysctl("ipv6/conf/all/disable_ipv6", "1");
            let _ = namespace.sysctl("ipv6/conf/default/disable_ipv6", "1");
        }
        namespace.sysctl("ipv4/conf/all/rp_filter", "0")?;
        namespace.sysctl("ipv4/conf/default/rp_filter", "0")?;
        Ok(namespace)
    }

    /// IPv6 addresses can be used as soon as they are given, and nobody announces others.
    fn settle_v6(&self) -> Result<(), LabError> {
        for which in ["all", "default"] {
            for (key, value) in [("disable_ipv6", "0"), ("accept_dad", "0"), ("accept_ra", "0")] {
                self.sysctl(&format!("ipv6/conf/{which}/{key}"), value)?;
            }
        }
        Ok(())
    }

    /// The name under which `ip netns` knows this machine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine's IPv4 address: a private one on hosts, a global one on everything else. Where it has none
    /// ([`Namespace::has_v4`]), the one that it would have.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Whether the machine has an IPv4 address.
    pub fn has_v4(&self) -> bool {
        self.has_v4
    }

    /// The machine's IPv6 address, a global one, if it has any.
    pub fn address_v6(&self) -> Option<Ipv6Addr> {
        self.address_v6
    }

    /// A command that runs `program` on this machine.
    ///
    /// The process that is spawned *is* the program, so that a signal to its id arrives there.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = ip();
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Does `work` on this machine, in a thread of its own.
    ///
    /// A socket that `work` returns stays on this machine, whoever uses it afterwards.
    ///
    /// # Errors
    ///
    /// If the thread cannot enter the namespace.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let entered = || {
            let enter = |source| LabError::Enter { namespace: self.name.clone(), source };
            let door = File::open(Path::new(NAMESPACES).join(&self.name)).map_err(enter)?;
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(door.as_fd(), network).map_err(|errno| enter(errno.into()))?;
            Ok(work())
        };
        std::thread::scope(|scope| scope.spawn(entered).join())
            .unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// The `ip` tool, speaking about this machine.
    pub(super) fn ip(&self) -> Command {
        let mut command = ip();
        command.args(["-n", &self.name]);
        command
    }

    /// The addresses of one of its links, of the family `-4` or `-6`, less link-local ones.
    pub(super) fn addresses_on(&self, link: &str, family: &str) -> Result<Vec<String>, LabError> {
        let all = json(self.ip().args(["-j", family, "addr", "show", "dev", link, "scope", "global"]))?;
        let listed =
            all.as_array().into_iter().flatten().filter_map(|of| of.get("addr_info")?.as_array());
        let addresses = listed.flatten().filter_map(|entry| entry.get("local")?.as_str());
        Ok(addresses.map(str::to_owned).collect())
    }

    /// Gives the machine a `/etc/resolv.conf` of its own, or changes it, as seen by programs that are started
    /// after the first call.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn resolv_conf(&self, text: &str) -> io::Result<()> {
        let etc = Path::new(ETC).join(&self.name);
        fs::create_dir_all(&etc)?;
        // The same file stays in its place, since that is what running programs see.
        fs::write(etc.join("resolv.conf"), text)
    }

    /// Carries out lines as `ip -batch` reads them, such as `addr add 10.0.0.1/24 dev eth0`.
    ///
    /// # Errors
    ///
    /// If `ip` refuses one.
    pub fn configure(&self, lines: &str) -> Result<(), LabError> {
        run(self.ip().args(["-batch", "-"]), Some(lines)).map(drop)
    }

    /// Writes a kernel setting below `/proc/sys/net`, such as `ipv4/tcp_congestion_control`.
    ///
    /// # Errors
    ///
    /// If there is no such setting, or the kernel refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        // It shows the namespace of the thread.
        let write = || fs::write(Path::new("/proc/sys/net").join(key), value);
        self.within(write)?.map_err(|source| LabError::Sysctl {
            namespace: self.name.clone(),
            key: key.to_owned(),
            source,
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Kills what runs in the namespace called `name` and removes it, as far as that is possible: it
/// may be gone already, and nobody is left to hear of an error.
pub(super) fn remove(name: &str) {
    let pids = run(ip().args(["netns", "pids", name]), None).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)) {
        if pid != getpid() {
            let _: io::Result<()> = kill_process(pid, Signal::KILL).map_err(io::Error::from);
        }
    }
    let _: Result<String, LabError> = run(ip().args(["netns", "delete", name]), None);
    let _: io::Result<()> = fs::remove_dir_all(Path::new(ETC).join(name));
}

/// Where `ip netns` keeps a door to each namespace.
const NAMESPACES: &str = "/run/netns";

/// Where `ip netns exec` looks for files that stand in for those in `/etc`.
const ETC: &str = "/etc/netns";
