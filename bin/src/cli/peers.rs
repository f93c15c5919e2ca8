//! `punchline peers`.

use clap::{Args, Subcommand, builder::BoolishValueParser};
use libp2p::PeerId;

use crate::names::{PeerName, PeerRef};

/// `punchline peers`: without another word, all names.
#[derive(Args, Debug)]
pub struct Peers {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Print one JSON object: names, and the ids of their peers.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// What to do with names.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Give a peer a name, which is known on this machine alone.
    Name {
        /// Its id, as 12D3KooW….
        #[arg(value_name = "ID")]
        peer: PeerId,
        /// What to call it: up to 32 letters, digits, - and _.
        #[arg(value_name = "NAME")]
        name: PeerName,
    },
    /// Take a name back.
    Forget {
        /// The name, or the id of its peer.
        #[arg(value_name = "NAME|ID")]
        peer: PeerRef,
    },
}
