//! Single questions about a node's network, by the names that operators of DHT nodes know.

use clap::{Args, Subcommand, builder::BoolishValueParser};

use super::asking::{Asking, Why};
use crate::names::PeerRef;

/// `punchline network`.
#[derive(Args, Debug)]
pub struct NetworkParts {
    /// What is asked.
    #[command(subcommand)]
    pub question: Question,
}

/// What is asked.
#[derive(Debug, Subcommand)]
pub enum Question {
    /// What the node is behind, and where others see it.
    NatStatus(Plain),
    /// Which ports the router forwards, by UPnP, NAT-PMP or PCP.
    UpnpStatus(Plain),
    /// Ping a peer until it is reached directly, for half a minute; then say why it is not.
    HolePunchTest(HolePunchTest),
    /// All that is known of a peer: as `punchline why`.
    PeerInfo(Why),
    /// How each relay does, which is where peers meet.
    BootstrapHealth(Plain),
    /// Where peers may be and who says so: those that the node looks for, heard of, or is connected with.
    Peers(Plain),
    /// Whether the node takes part in a DHT: not yet.
    DhtStatus(Plain),
    /// How many peers its DHT knows: none, as there is no DHT yet.
    RoutingTableSize(Plain),
}

impl Question {
    pub(super) fn asking(&mut self) -> &mut Asking {
        match self {
            Self::NatStatus(plain)
            | Self::UpnpStatus(plain)
            | Self::BootstrapHealth(plain)
            | Self::Peers(plain)
            | Self::DhtStatus(plain)
            | Self::RoutingTableSize(plain) => &mut plain.asking,
            Self::HolePunchTest(test) => &mut test.asking,
            Self::PeerInfo(why) => &mut why.asking,
        }
    }
}

/// A question of which the node is all that need be said.
#[derive(Args, Debug)]
pub struct Plain {
    /// Which node.
    #[command(flatten)]
    pub asking: Asking,
    /// Print one JSON object.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// `punchline network hole-punch-test`.
#[derive(Args, Debug)]
pub struct HolePunchTest {
    /// The peer, which the node is connected with. Default: the only one, or the only one that is relayed.
    #[arg(value_name = "PEER")]
    pub peer: Option<PeerRef>,
    /// Which node.
    #[command(flatten)]
    pub asking: Asking,
}
