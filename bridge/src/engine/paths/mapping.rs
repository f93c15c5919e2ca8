//! Ports that our router forwards to us, or over IPv6 lets everybody in at: for which listeners it is asked, and what
//! becomes of what it answers.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use crate::{
    addr::{policy::at, scope::Scope},
    config::PortMapping,
    engine::{
        Engine,
        input::{Action, Listener},
    },
    error::Family,
    event::{CandidateSource, Event, MappingFault, MappingProtocol},
    path::Transport,
};

/// What was said of mapped ports so far.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    /// The listeners that the router is asked for.
    asked: Vec<Listener>,
    /// The address of the router, of each family, that was said to be of no use.
    unusable: BTreeMap<Family, IpAddr>,
}

impl Engine {
    /// Has the router asked for those of our listeners that it may stand before; for none when the node ends.
    pub(in crate::engine) fn map_ports(&mut self) {
        let wanted = self.config.port_mapping == PortMapping::On && self.stopping.is_none();
        let mut listeners = if wanted { self.candidates.behind_router() } else { Vec::new() };
        listeners.sort();
        if listeners != self.mappings.asked {
            self.mappings.asked.clone_from(&listeners);
            self.actions.push_back(Action::MapPorts { listeners });
        }
    }

    /// As [`Engine::map_ports`], where our router may be another one although our listeners are the same.
    pub(in crate::engine) fn map_ports_anew(&mut self) {
        self.mappings.asked.clear();
        self.map_ports();
    }

    pub(in crate::engine) fn port_mapped(
        &mut self,
        transport: Transport,
        external: SocketAddr,
        protocol: MappingProtocol,
        now: Instant,
    ) {
        if self.stopping.is_some() {
            return;
        }
        let (address, family) = (at(external, transport), Family::of(external.ip()));
        if let Err(cause) = self.usable(external) {
            self.port_mapping_lost(transport, family);
            if self.mappings.unusable.insert(family, external.ip()) != Some(external.ip()) {
                let unusable = Event::PortMappingUnusable { transport, address, protocol, cause };
                self.events.push_back(unusable);
            }
            return;
        }
        self.mappings.unusable.remove(&family);
        if self.candidates.mapped((transport, family), address.clone(), now) {
            let mapped = Event::PortMapped { transport, address: address.clone(), protocol };
            let source = CandidateSource::Mapping { protocol };
            self.events.extend([mapped, Event::CandidateFound { address, source }]);
            self.outlook_improved();
        }
    }

    pub(in crate::engine) fn port_mapping_lost(&mut self, transport: Transport, family: Family) {
        if let Some(address) = self.candidates.mapping_lost((transport, family)) {
            self.events.push_back(Event::PortMappingLost { transport, address });
        }
    }

    /// Whether anybody can come to an address that our router named.
    fn usable(&self, external: SocketAddr) -> Result<(), MappingFault> {
        match self.candidates.policy().scope(external.ip()) {
            Scope::Public if external.port() != 0 => Ok(()),
            Scope::Private => Err(MappingFault::BehindNat),
            _ => Err(MappingFault::NoAddress),
        }
    }
}
