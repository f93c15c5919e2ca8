//! Whom a node or a relay speaks with, by address.

use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;

use super::Many;

/// Ranges of other hosts' addresses. A circuit counts as its relay. What is denied beats what is allowed.
#[derive(Args, Clone, Debug, Default)]
pub struct Nets {
    /// Dial and answer these ranges only, and the relays that are named here. Default: all.
    #[arg(long, env = "PUNCHLINE_ALLOW_NET", value_name = "CIDR")]
    pub allow_net: Vec<Many<IpNet>>,
    /// Neither dial nor answer these ranges, whoever names an address in them.
    #[arg(long, env = "PUNCHLINE_DENY_NET", value_name = "CIDR")]
    pub deny_net: Vec<Many<IpNet>>,
    /// More ranges, one a line: `allow 10.0.0.0/8` or `deny 10.9.0.0/16`, `#` for comments. `name example 192.0.2.0/24
    /// 2001:db8::/32` gives some a name, and `deny example` below denies them. Read again on SIGHUP; connections that are
    /// no longer allowed are closed.
    #[arg(long, env = "PUNCHLINE_NET_FILE", value_name = "FILE")]
    pub net_file: Option<PathBuf>,
}
