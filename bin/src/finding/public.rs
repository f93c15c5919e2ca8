//! Which addresses anybody reaches: these are told to strangers, and believed of them.

use std::net::IpAddr;

use libp2p::{Multiaddr, multiaddr::Protocol};
use punchline_bridge::addr::{self, GlobalScope, Ranges};

/// What everybody on the internet reaches, as far as the operator lets us.
#[derive(Clone)]
pub(super) struct Public {
    global: GlobalScope,
    ranges: Ranges,
}

impl Public {
    pub(super) fn new(global: GlobalScope, ranges: Ranges) -> Self {
        Self { global, ranges }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        self.global.contains(ip) && self.ranges.lets(ip)
    }

    pub(super) fn is_direct(&self, address: &Multiaddr) -> bool {
        let parts: Vec<Protocol<'_>> = address.iter().skip(1).collect();
        let plain = matches!(parts[..], [Protocol::Tcp(1..)] | [Protocol::Udp(1..), Protocol::QuicV1]);
        plain && ip_of(address).is_some_and(|ip| self.contains(ip))
    }

    /// The name of a relay is judged where it is looked up.
    pub(super) fn is_circuit(&self, address: &Multiaddr) -> bool {
        match addr::split_circuit(address) {
            Ok(Some((relay, _))) => ip_of(relay.address()).is_none_or(|ip| self.contains(ip)),
            Ok(None) => false,
            Err(_) => addr::split_named_circuit(address).is_some(),
        }
    }
}

pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// How the settings have meeting points used; none if they name none.
///
/// # Errors
/// If a file of ranges cannot be used.
#[cfg(feature = "rendezvous")]
pub(super) fn meeting_points(
    node: &crate::cli::Node,
    context: &crate::Context,
) -> Result<Option<punchline_discovery::rendezvous::Config>, crate::Unusable> {
    let points = crate::cli::all(&node.finding.rendezvous);
    if points.is_empty() {
        return Ok(None);
    }
    let (global, ranges) = super::reach(node)?;
    let public = Public::new(global, ranges);
    Ok(Some(punchline_discovery::rendezvous::Config {
        keypair: context.keypair.clone(),
        points: points.into_iter().map(|crate::cli::MeetingPoint(address)| address).collect(),
        policy: std::sync::Arc::new(move |address: &Multiaddr, _: libp2p::PeerId| {
            public.is_direct(address) || public.is_circuit(address)
        }),
        carrier: punchline_discovery::rendezvous::Carrier::Sockets,
    }))
}
