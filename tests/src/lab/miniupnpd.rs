//! A router that forwards ports to whoever asks, and by PCP over IPv6 opens its firewall: Debian's `miniupnpd`, in the
//! router's namespace.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::command::{LabError, run};
use super::{Lab, Namespace};

/// How a router is asked to forward a port. Each of ours understands one of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PortMapping {
    /// The Port Control Protocol.
    Pcp,
    /// The NAT Port Mapping Protocol.
    NatPmp,
    /// UPnP's Internet Gateway Device.
    Upnp,
}

impl fmt::Display for PortMapping {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pcp => "pcp",
            Self::NatPmp => "nat-pmp",
            Self::Upnp => "upnp",
        })
    }
}

/// A running `miniupnpd`.
///
/// # Drop
///
/// Kills it. What it forwarded stays forwarded, as in a router whose daemon crashed.
#[derive(Debug)]
pub struct Miniupnpd {
    daemon: Child,
    _directory: TempDir,
}

impl Miniupnpd {
    /// Whether the program is installed.
    pub fn is_installed() -> bool {
        Command::new(PROGRAM).arg("--version").output().is_ok()
    }

    /// Starts it on router `index`, whose owner wants it to speak `protocol` alone and to forward a port for `seconds`
    /// unless asked again; returns when it answers. [`Lab::set_router`] forgets it.
    ///
    /// # Errors
    ///
    /// If it does not start, or `nft` refuses its rules.
    pub fn start(
        lab: &Lab,
        index: usize,
        protocol: PortMapping,
        seconds: u32,
    ) -> Result<Self, LabError> {
        let router = lab.router(index);
        let opens = protocol == PortMapping::Pcp && router.address_v6().is_some();
        run(router.command("nft").args(["-f", "-"]), Some(&rules(protocol, opens)))?;
        let mut command = router.command(PROGRAM);
        let start =
            |source| LabError::Start { command: format!("{PROGRAM} on {}", router.name()), source };
        let directory = TempDir::new().map_err(start)?;
        let path = |name: &str| directory.path().join(name);
        fs::write(path("conf"), settings(protocol, seconds, opens)).map_err(start)?;
        command.arg("-d").arg("-f").arg(path("conf")).arg("-P").arg(path("pid"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut daemon = Self { daemon: command.spawn().map_err(start)?, _directory: directory };
        match daemon.is_ready(protocol) {
            true => Ok(daemon),
            false => Err(LabError::answer(&command, "it is not ready in time")),
        }
    }

    /// Waits until it says that it answers; reads on what it says, so that it does not wait for us.
    fn is_ready(&mut self, protocol: PortMapping) -> bool {
        let sign = match protocol {
            PortMapping::Pcp | PortMapping::NatPmp => "Listening for NAT-PMP/PCP traffic",
            PortMapping::Upnp => "HTTP listening on port",
        };
        let Some(said) = self.daemon.stderr.take() else { return false };
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                if line.contains(sign) {
                    // Nobody listens any more after the first time.
                    let _ = tell.send(());
                }
            }
        });
        told.recv_timeout(READY_DEADLINE).is_ok()
    }

    /// How many ports `router` forwards.
    ///
    /// # Errors
    ///
    /// If `nft` does not tell.
    pub fn forwarded(router: &Namespace) -> Result<usize, LabError> {
        let mut command = router.command("nft");
        let rules = run(command.args(["list", "chain", "inet", TABLE, "in"]), None)?;
        Ok(rules.lines().filter(|line| line.contains("dnat")).count())
    }

    /// At how many ports `router` lets everybody in over IPv6.
    ///
    /// # Errors
    ///
    /// If `nft` does not tell.
    pub fn opened(router: &Namespace) -> Result<usize, LabError> {
        let mut command = router.command("nft");
        let rules = run(command.args(["list", "chain", "inet", TABLE, "forward"]), None)?;
        Ok(rules.lines().filter(|line| line.contains(TO_HOST_V6)).count())
    }
}

impl Drop for Miniupnpd {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// The tables that the daemon fills, and what a router lets through for it: ports that it forwards, and of the two
/// protocols on port 5351, which the daemon only speaks together, the one that is wanted. They differ in their first
/// byte.
///
/// What the daemon accepts over IPv6 meets the router's own rules next, which know it by a mark.
fn rules(protocol: PortMapping, opens: bool) -> String {
    let unwanted = match protocol {
        PortMapping::Pcp => "0",
        PortMapping::NatPmp => "2",
        PortMapping::Upnp => "{ 0, 2 }",
    };
    let opened = if opens { "insert rule ip6 lab forward meta mark 1 accept" } else { "" };
    format!(
        "
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
    chain forward {{ }}
    chain in {{ }}
    chain out {{ }}
    chain forwarding {{
        type filter hook forward priority filter - 5; policy accept;
        meta nfproto ipv6 iifname wan meta mark set 1
        jump forward
        meta mark set 0
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        jump in
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat + 5; policy accept;
        jump out
    }}
}}
insert rule ip lab forward ct status dnat accept
insert rule ip lab input udp dport 5351 @th,64,8 {unwanted} drop
{opened}
"
    )
}

fn settings(protocol: PortMapping, seconds: u32, opens: bool) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let upnp = protocol == PortMapping::Upnp;
    format!(
        "\
ext_ifname=wan
ext_ifname6=wan
ipv6_disable={}
listening_ip=lan
enable_upnp={}
enable_natpmp={}
min_lifetime={}
max_lifetime={seconds}
secure_mode=yes
upnp_table_name={TABLE}
upnp_nat_table_name={TABLE}
upnp_forward_chain=forward
upnp_nat_chain=in
upnp_nat_postrouting_chain=out
uuid=7e57ab1e-0000-4000-8000-000000000001
allow 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
",
        yes(!opens),
        yes(upnp),
        yes(!upnp),
        // It wants less than the other.
        seconds - 1,
    )
}

const PROGRAM: &str = "miniupnpd";
const TABLE: &str = "mapped";

/// How `nft` shows the destination address of IPv6 in the daemon's rules.
const TO_HOST_V6: &str = "@nh,192,128";

/// It takes milliseconds.
const READY_DEADLINE: Duration = Duration::from_secs(10);
