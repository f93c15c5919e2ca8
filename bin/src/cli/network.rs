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
    /// How those do where peers meet: relays, and the nodes that the DHT is begun with.
    BootstrapHealth(Plain),
    /// Where peers may be and who says so: those that the node looks for, heard of, or is connected with.
    Peers(Plain),
    /// The node's part in the DHT.
    DhtStatus(Plain),
    /// How many nodes of the DHT it knows.
    RoutingTableSize(TableSize),
}

impl Question {
    pub(super) fn asking(&mut self) -> &mut Asking {
        match self {
            Self::NatStatus(plain)
            | Self::UpnpStatus(plain)
            | Self::BootstrapHealth(plain)
            | Self::Peers(plain)
            | Self::DhtStatus(plain) => &mut plain.asking,
            Self::RoutingTableSize(size) => &mut size.plain.asking,
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

/// `punchline network routing-table-size`.
#[derive(Args, Debug)]
pub struct TableSize {
    /// Which node.
    #[command(flatten)]
    pub plain: Plain,
    /// How many there are in each bucket, too.
    #[arg(long, env = "PUNCHLINE_BUCKETS", value_parser = BoolishValueParser::new())]
    pub buckets: bool,
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
