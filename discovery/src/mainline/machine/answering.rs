//! What this node answers others.

use std::{net::SocketAddrV4, time::Instant};

use super::{Machine, MainlineEvent, asking::Purpose};
use crate::mainline::{
    id::Id,
    message::{Answer, Body, Node, Packet, Query, Refusal},
};

/// Nodes in an answer (BEP 5). Some clients take no longer list, and whoever writes another's address on his query has
/// longer answers sent there.
const NODES_TOLD: usize = 8;

/// Newcomers that are asked at once whether they are there. Their addresses may be anybody's.
pub(super) const CHECKS_MAX: usize = 16;

impl Machine {
    /// Whether a query from there is answered.
    pub(super) fn answers(&mut self, from: SocketAddrV4, now: Instant) -> bool {
        let answers = self.settings.serves && self.door.lets_in(*from.ip(), now);
        self.refused += u64::from(self.settings.serves && !answers);
        answers
    }

    pub(super) fn asked(
        &mut self,
        transaction: Vec<u8>,
        asker: Node,
        query: Query,
        read_only: bool,
        now: Instant,
    ) {
        if !self.answers(asker.address, now) {
            return;
        }
        let body = match self.answer(asker.address, query, now) {
            Ok(answer) => Body::Answer { answer: Box::new(answer), sees_us_at: None },
            Err(refusal) => Body::Refusal(refusal),
        };
        self.send(asker.address, &Packet { transaction, body });
        let known = self.is_asked(asker.address) || self.checks() >= CHECKS_MAX;
        if !read_only && !known && self.table.wants(&asker) {
            self.ask(asker.address, Some(asker.id), Query::Ping, Purpose::Check, now);
        }
    }

    fn answer(&mut self, from: SocketAddrV4, query: Query, now: Instant) -> Result<Answer, Refusal> {
        let mut answer = Answer::new(self.table.own());
        match query {
            Query::Ping => {}
            Query::FindNode { target } => answer.nodes = self.told_of(target, from),
            Query::GetPeers { hash } => {
                answer.nodes = self.told_of(hash, from);
                answer.peers = self.store.peers(hash, &mut self.random);
                answer.token = Some(self.door.token(*from.ip(), now));
            }
            Query::Get { target } => {
                answer.nodes = self.told_of(target, from);
                answer.item = self.store.value(target).cloned();
                answer.token = Some(self.door.token(*from.ip(), now));
            }
            Query::Announce { hash, port, token } => {
                self.check(&token, from, now)?;
                let peer = SocketAddrV4::new(*from.ip(), port.unwrap_or(from.port()));
                self.store.announce(self.table.own(), hash, peer, now)?;
                self.event(MainlineEvent::DataStored { target: hash, nodes: None });
            }
            Query::Put { item, replaces, token } => {
                self.check(&token, from, now)?;
                let target = self.store.put(self.table.own(), item, replaces, *from.ip(), now)?;
                self.event(MainlineEvent::DataStored { target, nodes: None });
            }
        }
        Ok(answer)
    }

    fn told_of(&self, target: Id, asker: SocketAddrV4) -> Vec<Node> {
        let mut nodes = self.table.closest(target, NODES_TOLD + 1);
        nodes.retain(|node| node.address != asker);
        nodes.truncate(NODES_TOLD);
        nodes
    }

    fn check(&self, token: &[u8], from: SocketAddrV4, now: Instant) -> Result<(), Refusal> {
        self.door.knows(token, *from.ip(), now).then_some(()).ok_or(Refusal::Protocol)
    }
}
