//! Where this node listens and is reached, and what it is behind. Pure.

use std::time::Instant;

use punchline_bridge::{Event, event::LetsIn};

use super::{
    Level, Saying, debug,
    net::{carrier, mapping},
    trouble,
};
use crate::{external, report::said::Said};

/// Events of other subjects say nothing here.
pub(super) fn sentence(event: &Event, said: &mut Said, now: Instant) -> Saying {
    match event {
        Event::Listening { address } => debug(format!("listening on {address}")),
        Event::StunListening { address, .. } => debug(format!("answering STUN on {address}")),
        // What to run elsewhere: it could not be said at the start.
        Event::ExternalFound { address } => Some((Level::Info, format!("peers use: --relay {address}"))),
        Event::ListenFailed { address, cause } => {
            Some((Level::Warn, format!("not listening on {address}: {cause}")))
        }
        Event::CandidateFound { address, .. } => debug(format!("this node may be reached at {address}")),
        Event::NatFound { family, nat, .. } => {
            let words = format!("over {family}, this node is behind: {nat}");
            match said.is_other_nat(family.to_string(), nat.to_string()) {
                true => news("nat_found", words, said, now),
                false => debug(words),
            }
        }
        Event::AddressConfirmed { address, lets_in, .. } => {
            let who = match lets_in {
                LetsIn::Anybody => "anybody reaches",
                LetsIn::WhoWasSpokenTo => "hosts that it spoke with reach",
            };
            news("address", format!("{who} this node at {address}"), said, now)
        }
        Event::AddressWithdrawn { address } => {
            news("address", format!("nobody reaches this node at {address} any more"), said, now)
        }
        Event::ExternalUnanswered { address, relay, listener } => {
            let remedy = external::remedy(address, listener.as_ref());
            let words = format!(
                "nobody answers at {address}, where --external says that this node is reached: relay {relay} tried it in vain; \
                 {remedy}"
            );
            Some((Level::Warn, words))
        }
        Event::PortMapped { transport, address, protocol } => {
            let (carrier, by) = (carrier(*transport), mapping(*protocol));
            let words = format!("the router lets peers in at {address} ({carrier}, by {by})");
            news("port_mapped", words, said, now)
        }
        Event::PortMappingLost { address, .. } => {
            let words = format!("the router no longer lets peers in at {address}; it is asked again");
            trouble("port_mapping_lost", "", words, said, now)
        }
        Event::PortMappingUnusable { address, cause, .. } => {
            let words = format!("what the router forwards at {address} is of no use: {cause}");
            trouble("port_mapping_unusable", "", words, said, now)
        }
        Event::UpgradesCounted(count) => {
            debug(format!("{} times {:?} over {}", count.count, count.rung, count.transport))
        }
        Event::Stopped {} => Some((Level::Info, "stopped".to_owned())),
        _ => None,
    }
}

/// What is good to know of this node itself, unless it changes all the time.
fn news(kind: &'static str, words: String, said: &mut Said, now: Instant) -> Saying {
    let level = if said.is_news(kind, now) { Level::Info } else { Level::Debug };
    Some((level, words))
}
