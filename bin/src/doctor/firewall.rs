//! `punchline doctor firewall`: lines to copy for the ports that a node listens on.

use std::{collections::BTreeSet, fmt::Write as _};

use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::{control::proto, node::is_loopback};

/// Where others may come in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ports {
    /// Whose they are, if it runs.
    whose: Option<String>,
    tcp: BTreeSet<u16>,
    udp: BTreeSet<u16>,
}

impl Ports {
    /// Of one that is to listen here.
    pub(super) fn named(listen: &[Multiaddr]) -> Self {
        let mut ports = Self::default();
        listen.iter().for_each(|address| ports.add(address));
        ports
    }

    /// Of one that runs.
    pub(super) fn of(status: &proto::Status) -> Self {
        let whose = Some(format!("the {} that runs here, {}", status.command, status.peer));
        let mut ports = Self { whose, ..Self::default() };
        let dht = status.dht.iter().flat_map(|dht| &dht.listening);
        let addresses = status.listening.iter().chain(dht).filter_map(|address| address.parse().ok());
        addresses.for_each(|address| ports.add(&address));
        let stun = status.relaying.iter().flat_map(|relaying| &relaying.stun);
        for at in stun.filter_map(|at| at.parse::<std::net::SocketAddr>().ok()) {
            // It answers at the next port, too, so that nodes can compare.
            ports.udp.extend([Some(at.port()), at.port().checked_add(1)].into_iter().flatten());
        }
        ports
    }

    /// Not one of loopback, where no firewall is in the way, and none that the system is yet to choose.
    fn add(&mut self, address: &Multiaddr) {
        for part in address.iter().filter(|_| !is_loopback(address)) {
            match part {
                Protocol::Tcp(port) if port != 0 => self.tcp.insert(port),
                Protocol::Udp(port) if port != 0 => self.udp.insert(port),
                _ => continue,
            };
        }
    }

    /// Each kind with its ports, if there are any.
    fn by_kind(&self) -> impl Iterator<Item = (&'static str, &BTreeSet<u16>)> {
        [("tcp", &self.tcp), ("udp", &self.udp)].into_iter().filter(|(_, ports)| !ports.is_empty())
    }

    fn all(&self) -> BTreeSet<u16> {
        self.tcp.union(&self.udp).copied().collect()
    }
}

/// What to copy. A shell passes over all but the lines without `#`, which are for this kind of firewall or that.
///
/// # Errors
/// If there is no port, what is the matter.
pub(super) fn text(ports: &Ports) -> Result<String, &'static str> {
    if ports.all().is_empty() {
        return Err(
            "there is no port to open: it listens on loopback alone, or at a port that the system is yet to choose; say \
             --listen /ip4/0.0.0.0/tcp/4001 here and where the node is started",
        );
    }
    let mut text = String::new();
    let mut part = |heading: &str, lines: Vec<String>| {
        let _ = writeln!(text, "# {heading}");
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
        text.push('\n');
    };
    part(&which(ports), remarks());
    part(
        "nftables, as root; for a table and chain of other names, as `nft list ruleset` shows them, change these",
        each(ports, |kind, list| {
            format!("nft insert rule inet filter input {kind} dport '{{ {list} }}' accept")
        }),
    );
    part("ufw, as root", each_port(ports, |kind, port| format!("ufw allow {port}/{kind}")));
    let mut firewalld =
        each_port(ports, |kind, port| format!("firewall-cmd --permanent --add-port={port}/{kind}"));
    firewalld.push("firewall-cmd --reload".to_owned());
    part("firewalld, as root", firewalld);
    part(
        "Windows, in PowerShell as administrator",
        each(ports, |kind, list| {
            let kind = kind.to_uppercase();
            format!(
                "New-NetFirewallRule -DisplayName 'punchline {kind}' -Direction Inbound -Action Allow -Protocol {kind} \
                 -LocalPort {}",
                list.replace(' ', "")
            )
        }),
    );
    part(
        "macOS, whose firewall goes by programs",
        vec![
            "sudo /usr/libexec/ApplicationFirewall/socketfilterfw --unblockapp \"$(command -v punchline)\""
                .to_owned(),
        ],
    );
    part("Who listens there: Linux; macOS; Windows", listeners(ports));
    part("What passes there (Wireshark takes the same filter)", captures(ports));
    text.pop();
    Ok(text)
}

fn which(ports: &Ports) -> String {
    let kinds: Vec<_> = ports
        .by_kind()
        .map(|(kind, ports)| format!("{} {}", kind.to_uppercase(), list(ports)))
        .collect();
    let whose = ports.whose.as_ref().map(|whose| format!(" of {whose}")).unwrap_or_default();
    format!("Ports{whose}: {}", kinds.join("; "))
}

fn remarks() -> Vec<String> {
    [
        "# A relay and a bootstrap node need them open, here and in their provider's firewall. A node behind a NAT works",
        "# without; with them open, peers come in without a punch. A port that the system chose is another one after a",
        "# restart: name one with --listen. A 160-bit network (--mainline) has a UDP port of its own, 6881 mostly.",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn listeners(ports: &Ports) -> Vec<String> {
    let all = ports.all();
    let some = |word: &str, before: &str| {
        let each: Vec<_> = all.iter().map(|port| format!("{before}{port}")).collect();
        each.join(word)
    };
    let mut lines = vec![
        format!("ss -Htulpn '{}'", some(" or ", "sport = :")),
        format!("lsof -nP {}", some(" ", "-i :")),
    ];
    lines.extend(ports.by_kind().map(|(kind, ports)| match kind {
        "tcp" => {
            format!("Get-NetTCPConnection -State Listen -LocalPort {}", list(ports).replace(' ', ""))
        }
        _ => format!("Get-NetUDPEndpoint -LocalPort {}", list(ports).replace(' ', "")),
    }));
    lines
}

fn captures(ports: &Ports) -> Vec<String> {
    let filters: Vec<_> = ports
        .by_kind()
        .flat_map(|(kind, ports)| ports.iter().map(move |port| format!("{kind} port {port}")))
        .collect();
    vec![format!("tcpdump -ni any '{}'", filters.join(" or "))]
}

fn list(ports: &BTreeSet<u16>) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

fn each(ports: &Ports, line: impl Fn(&str, &str) -> String) -> Vec<String> {
    ports.by_kind().map(|(kind, ports)| line(kind, &list(ports))).collect()
}

fn each_port(ports: &Ports, line: impl Fn(&str, u16) -> String) -> Vec<String> {
    let lines = ports.by_kind().flat_map(|(kind, ports)| ports.iter().map(move |port| (kind, *port)));
    lines.map(|(kind, port)| line(kind, port)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn addresses(all: &[&str]) -> Vec<Multiaddr> {
        all.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn each_firewall_is_told_of_each_port_once_and_of_none_that_only_this_host_reaches() {
        let ports = Ports::named(&addresses(&[
            "/ip4/0.0.0.0/tcp/4001",
            "/ip6/::/tcp/4001",
            "/ip4/0.0.0.0/udp/4001/quic-v1",
            "/ip4/0.0.0.0/tcp/443/tls/ws",
            "/ip4/127.0.0.1/tcp/9999",
        ]));
        let text = text(&ports).unwrap();
        for line in [
            "# Ports: TCP 443, 4001; UDP 4001",
            "nft insert rule inet filter input tcp dport '{ 443, 4001 }' accept",
            "nft insert rule inet filter input udp dport '{ 4001 }' accept",
            "ufw allow 443/tcp",
            "ufw allow 4001/udp",
            "firewall-cmd --permanent --add-port=4001/tcp",
            "firewall-cmd --reload",
            "New-NetFirewallRule -DisplayName 'punchline TCP' -Direction Inbound -Action Allow -Protocol TCP -LocalPort 443,4001",
            "ss -Htulpn 'sport = :443 or sport = :4001'",
            "lsof -nP -i :443 -i :4001",
            "Get-NetUDPEndpoint -LocalPort 4001",
            "tcpdump -ni any 'tcp port 443 or tcp port 4001 or udp port 4001'",
        ] {
            assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line} in:\n{text}");
        }
        assert!(!text.contains("9999"), "{text}");
    }

    #[test]
    fn the_ports_of_a_relay_that_runs_are_those_of_stun_and_of_the_dht_as_well() {
        let status = proto::Status {
            command: "relay".to_owned(),
            peer: "12D3".to_owned(),
            listening: vec!["/ip4/10.0.0.1/tcp/4001".to_owned(), "/ip4/127.0.0.1/tcp/4001".to_owned()],
            relaying: Some(proto::Relaying {
                stun: vec!["0.0.0.0:3478".to_owned(), "[::]:3478".to_owned()],
                ..Default::default()
            }),
            dht: Some(proto::Dht {
                listening: vec!["/ip4/10.0.0.1/udp/5001/quic-v1".to_owned()],
                ..Default::default()
            }),
            ..Default::default()
        };
        let text = text(&Ports::of(&status)).unwrap();
        let first = "# Ports of the relay that runs here, 12D3: TCP 4001; UDP 3478, 3479, 5001\n";
        assert!(text.starts_with(first), "{text}");
    }

    #[test]
    fn where_no_port_can_be_opened_it_is_said_why() {
        for nowhere in [&["/ip4/127.0.0.1/tcp/4001"][..], &["/ip4/0.0.0.0/tcp/0"], &[]] {
            let fault = text(&Ports::named(&addresses(nowhere))).unwrap_err();
            assert!(fault.contains("--listen /ip4/0.0.0.0/tcp/4001"), "{fault}");
        }
    }
}
