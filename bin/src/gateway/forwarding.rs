//! What a forward is told: whom it leads to, what for, and where it listens.

use std::{net::Ipv4Addr, num::NonZeroUsize, path::PathBuf, time::Duration};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use punchline_bridge::{RelayLocator, Service, addr};
#[cfg(feature = "kad")]
use punchline_discovery::keys::Namespace;

use super::{
    Findable,
    whom::{MEMBERS_MAX, Whom},
};
#[cfg(feature = "kad")]
use crate::names::PeerRef;
use crate::{
    Unusable,
    cli::{self, Patience, SocketName},
    names::NamesFile,
};

/// A service that is to be forwarded.
#[derive(Clone, Debug)]
pub(super) struct Forwarding {
    pub(super) whom: Whom,
    pub(super) service: Service,
    pub(super) local: SocketName,
    /// Where the peer may be found, by our own operator.
    pub(super) addresses: Vec<Multiaddr>,
    /// Where it may be found by its own word, in a ticket.
    pub(super) said: Vec<Multiaddr>,
    /// What to present; empty for nothing.
    pub(super) proof: Bytes,
    /// None: as many as one peer may have streams.
    pub(super) max_connections: Option<usize>,
    /// None: the node's.
    pub(super) patience: Option<Duration>,
    /// From a local connection to its stream.
    pub(super) within: Duration,
    /// So many members have a local address of their own; none: one for all.
    #[cfg_attr(not(feature = "kad"), allow(dead_code))]
    pub(super) each: Option<usize>,
    /// Where these addresses are written.
    #[cfg_attr(not(feature = "kad"), allow(dead_code))]
    pub(super) addresses_file: Option<PathBuf>,
}

impl Forwarding {
    /// What the flags or a table of `forward` ask for. A ticket says what they leave out, and adds to
    /// the ways that they name.
    pub(super) fn of(
        way: &cli::Way,
        relays: &[RelayLocator],
        myself: PeerId,
        names: &NamesFile,
        found: &Findable,
    ) -> Result<Self, Unusable> {
        #[cfg(feature = "kad")]
        if way.peer.is_none() && way.ticket.is_none() && !found.namespaces.is_empty() {
            return Self::of_members(way, found.namespaces.clone());
        }
        if way.max.is_some() || way.addresses_file.is_some() {
            return Err(Unusable(
                "--max and --addresses-file are for the members of a --namespace, without --peer and --ticket".to_owned(),
            ));
        }
        #[cfg(feature = "kad")]
        if let Some(authority) = way.peer.as_ref().filter(|peer| matches!(peer, PeerRef::Authority(_))) {
            return Self::of_authority(way, authority, found);
        }
        let ticket = way.ticket.as_ref();
        let named = way.peer.as_ref().map(|peer| names.resolve(peer)).transpose();
        let named = named.map_err(|error| Unusable(format!("--peer: {error}")))?;
        let peer = one("peer", named, ticket.map(|ticket| ticket.peer()))?;
        let service = ticket.map(|ticket| ticket.service().clone());
        let service = one("service", way.service.clone(), service)?;
        if peer == myself {
            let remedy = "is this node's own id; give the id of another node, or another --identity";
            return Err(Unusable(format!("--peer {peer} {remedy}")));
        }
        let mut addresses = cli::all(&way.addr);
        for address in &addresses {
            if let Some(other) = addr::peer_of(address).filter(|other| *other != peer) {
                return Err(Unusable(format!(
                    "--addr {address} leads to {other}, not to --peer {peer}"
                )));
            }
        }
        let (mut said, mut proof) = (Vec::new(), Bytes::new());
        if let Some(ticket) = ticket {
            said.extend(ticket.addrs().iter().cloned());
            said.extend(ticket.relays().iter().map(|relay| relay.circuit_to(peer)));
            proof = Bytes::copy_from_slice(ticket.proof());
        }
        addresses.extend(relays.iter().map(|relay| relay.circuit_to(peer)));
        if addresses.is_empty() && said.is_empty() && !found.peers {
            let remedy = "say where the peer is: --relay <the relay it has a reservation with>, --addr, or --ticket; \
                          nothing looks for it, neither --mdns nor --peer-cache nor --bootstrap";
            return Err(Unusable(remedy.to_owned()));
        }
        Ok(Self { addresses, said, proof, ..Self::new(way, Whom::Peer(peer), service) })
    }

    fn new(way: &cli::Way, whom: Whom, service: Service) -> Self {
        Self {
            whom,
            service,
            local: way.local.clone(),
            addresses: Vec::new(),
            said: Vec::new(),
            proof: Bytes::new(),
            max_connections: way.max_connections.map(NonZeroUsize::get),
            patience: None,
            within: way.connect_timeout.duration(),
            each: None,
            addresses_file: None,
        }
    }

    /// Whoever answers for an authority says itself where it is.
    #[cfg(feature = "kad")]
    fn of_authority(way: &cli::Way, peer: &PeerRef, found: &Findable) -> Result<Self, Unusable> {
        let PeerRef::Authority(authority) = peer else {
            return Err(Unusable(format!("--peer {peer} is no authority")));
        };
        if !found.dht {
            let remedy = "is looked up in a DHT: say --bootstrap <the address of a node of it>";
            return Err(Unusable(format!("--peer {peer} {remedy}")));
        }
        if !way.addr.is_empty() || way.ticket.is_some() {
            let remedy =
                "says itself where it is: leave out --addr and --ticket, or name the peer by its id";
            return Err(Unusable(format!("whoever answers for {peer} {remedy}")));
        }
        let service = one("service", way.service.clone(), None)?;
        Ok(Self::new(way, Whom::Authority(*authority), service))
    }

    /// Any member that answers for the service will do.
    #[cfg(feature = "kad")]
    fn of_members(way: &cli::Way, namespaces: Vec<Namespace>) -> Result<Self, Unusable> {
        if !way.addr.is_empty() {
            let remedy =
                "is of no use without --peer: members of a namespace say themselves where they are";
            return Err(Unusable(format!("--addr {remedy}")));
        }
        let service = one("service", way.service.clone(), None)?;
        let each = way.max.map(usize::from);
        if way.addresses_file.is_some() && each.is_none() {
            return Err(Unusable(
                "--addresses-file lists what --max gives: say how many, as --max 8".to_owned(),
            ));
        }
        let forwarding = Self {
            each,
            addresses_file: way.addresses_file.clone(),
            ..Self::new(way, Whom::Members(namespaces), service)
        };
        forwarding.locals().map(|_| forwarding)
    }

    /// Where it listens: at one place, or one for each member, which have addresses of their own, since programs like kaspad
    /// know their peers by these.
    ///
    /// # Errors
    /// If that place is none of which there are several.
    pub(super) fn locals(&self) -> Result<Vec<SocketName>, Unusable> {
        let Some(each) = self.each else { return Ok(vec![self.local.clone()]) };
        let wrong = || {
            let remedy = "gives each member a loopback address of its own: say --local 127.0.0.1:0, or a port in place of 0";
            Unusable(format!("--max {remedy}"))
        };
        let SocketName::Tcp { host, port } = &self.local else { return Err(wrong()) };
        let first: Ipv4Addr = host.parse().map_err(|_| wrong())?;
        let nth = |number: usize| {
            let ip = Ipv4Addr::from(u32::from(first).checked_add(number as u32)?);
            ip.is_loopback().then(|| SocketName::Tcp { host: ip.to_string(), port: *port })
        };
        (0..each.min(MEMBERS_MAX)).map(nth).collect::<Option<_>>().ok_or_else(wrong)
    }

    /// The relays that lead to the peer.
    pub(super) fn relays(&self) -> Vec<PeerId> {
        let ways = self.addresses.iter().chain(&self.said);
        ways.filter_map(|way| Some(addr::split_circuit(way).ok()??.0.peer())).collect()
    }

    /// What a table asks for; `relays` are those at the top of the file.
    pub(super) fn of_table(
        table: &cli::ForwardTable,
        relays: &[RelayLocator],
        myself: PeerId,
        names: &NamesFile,
        found: &Findable,
    ) -> Result<Self, Unusable> {
        let relays = [cli::all(&table.relay), relays.to_vec()].concat();
        let patience = table.patience.map(Patience::duration);
        #[cfg(feature = "kad")]
        let found = &found.of_table(&table.namespace)?;
        Ok(Self { patience, ..Self::of(&table.way, &relays, myself, names, found)? })
    }
}

/// What a flag or a ticket says; both must agree.
fn one<T: PartialEq + std::fmt::Display>(
    flag: &str,
    said: Option<T>,
    written: Option<T>,
) -> Result<T, Unusable> {
    match (said, written) {
        (Some(said), Some(written)) if said != written => Err(Unusable(format!(
            "--{flag} says {said} and the ticket {written}; leave --{flag} out, or use the right ticket"
        ))),
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) => Err(Unusable(format!(
            "--{flag} is missing: say it, or use --ticket with what `punchline ticket new` printed there"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    const OTHER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn forwarding(args: &[&str]) -> Result<Forwarding, Unusable> {
        let command = cli::Forward::augment_args(clap::Command::new("forward"));
        let command = command.mut_args(|flag| flag.env(None::<&'static str>));
        let args = ["forward", "--local", "127.0.0.1:0"].iter().chain(args);
        let matches = command.try_get_matches_from(args).unwrap();
        let forward = cli::Forward::from_arg_matches(&matches).unwrap();
        Forwarding::of(
            &forward.way,
            &cli::all(&forward.node.relay),
            OTHER.parse().unwrap(),
            &NamesFile::default(),
            &Findable {
                peers: false,
                #[cfg(feature = "kad")]
                dht: false,
                #[cfg(feature = "kad")]
                namespaces: Vec::new(),
                #[cfg(feature = "kad")]
                space: Default::default(),
            },
        )
    }

    #[test]
    fn what_is_missing_is_named() {
        let relay = format!("/ip4/203.0.113.7/tcp/4001/p2p/{OTHER}");
        let astray = format!("/ip4/203.0.113.7/tcp/1/p2p/{OTHER}");
        for (args, hint) in [
            (&["--service", "kaspad", "--relay", &relay][..], "--peer is missing"),
            (&["--peer", PEER, "--relay", &relay], "--service is missing"),
            (&["--peer", PEER, "--service", "kaspad"], "say where the peer is"),
            (&["--peer", OTHER, "--service", "kaspad", "--relay", &relay], "this node's own id"),
            (&["--peer", PEER, "--service", "kaspad", "--addr", &astray], "leads to"),
        ] {
            let error = forwarding(args).unwrap_err().to_string();
            assert!(error.contains(hint), "{args:?}: {error}");
        }
        let whole = forwarding(&["--peer", PEER, "--service", "kaspad", "--relay", &relay]).unwrap();
        let circuit = relay.parse::<RelayLocator>().unwrap().circuit_to(PEER.parse().unwrap());
        assert_eq!((whole.addresses, whole.said), (vec![circuit], Vec::new()));
        assert!(whole.proof.is_empty());
    }

    #[cfg(feature = "kad")]
    fn of_members(args: &[&str]) -> Result<Vec<String>, Unusable> {
        let command = cli::Forward::augment_args(clap::Command::new("forward"));
        let command = command.mut_args(|flag| flag.env(None::<&'static str>));
        let args = ["forward", "--service", "kaspad"].iter().chain(args);
        let matches = command.try_get_matches_from(args).unwrap();
        let forward = cli::Forward::from_arg_matches(&matches).unwrap();
        let network = "main".parse::<punchline_discovery::Network>().unwrap();
        let namespaces = vec![Namespace::public(&network, "kaspa-mainnet").unwrap()];
        let found = Findable { peers: true, dht: true, namespaces, space: Default::default() };
        let names = NamesFile::default();
        let forwarding = Forwarding::of(&forward.way, &[], OTHER.parse().unwrap(), &names, &found)?;
        Ok(forwarding.locals()?.iter().map(ToString::to_string).collect())
    }

    #[cfg(feature = "kad")]
    #[test]
    fn each_of_several_members_has_a_loopback_address_of_its_own() {
        let eight = of_members(&["--local", "127.0.0.1:16111", "--max", "3"]).unwrap();
        assert_eq!(eight, ["127.0.0.1:16111", "127.0.0.2:16111", "127.0.0.3:16111"]);
        assert_eq!(of_members(&["--local", "127.0.0.1:0"]).unwrap(), ["127.0.0.1:0"]);
        for args in [
            &["--local", "unix:/a", "--max", "3"][..],
            &["--local", "192.168.1.1:0", "--max", "3"],
            &["--local", "127.255.255.254:0", "--max", "3"],
            &["--local", "localhost:0", "--max", "3"],
        ] {
            assert!(of_members(args).unwrap_err().0.contains("--local 127.0.0.1:0"), "{args:?}");
        }
        let error = of_members(&["--local", "127.0.0.1:0", "--addresses-file", "/a"]).unwrap_err();
        assert!(error.0.contains("--max 8"), "{error}");
        let error = of_members(&["--local", "127.0.0.1:0", "--max", "2", "--peer", PEER]).unwrap_err();
        assert!(error.0.contains("without --peer"), "{error}");
    }
}
