//! Whether discovery works.

use clap::{Args, builder::BoolishValueParser};

use crate::{
    cli::{
        Node,
        asking::{Asking, Timeout},
    },
    names::PeerRef,
};

/// `punchline discovery verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// The settings of the node that is started, if none runs here. The namespace is looked at also of the one that runs.
    #[command(flatten)]
    pub settings: Node,
    /// The node by its command, where several run: expose, forward, server, client. It counts more than --control.
    #[arg(long, env = "PUNCHLINE_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// Step 5 has to reach this peer, by its id or the name that the node knows. It is looked for from then on, too.
    #[arg(long, env = "PUNCHLINE_PEER", value_name = "PEER")]
    pub peer: Option<PeerRef>,
    /// Give up after this: `30s`, `5m`.
    #[arg(long, env = "PUNCHLINE_TIMEOUT", value_name = "TIME", default_value = "60s")]
    pub timeout: Timeout,
    /// Print one JSON object.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

impl Verify {
    /// Which running node is asked.
    pub fn asking(&self) -> Asking {
        let (control, node) = (self.settings.control.clone(), self.node.clone());
        Asking { control, node, identity: None }
    }
}
