//! Where a node or a relay shows itself to people.

use std::net::SocketAddr;

use clap::Args;

use super::metrics::HttpAddr;

/// Where a node or a relay shows itself to people.
#[derive(Args, Clone, Debug)]
pub struct Page {
    /// Show how it goes, live, to a browser at http://HOST:PORT/: the path that bytes take, moves, relays, what failed;
    /// of a relay, whom it serves and how full it is. Whoever looks can have a node try again at once, and nothing else.
    /// HOST is an IP address or `localhost`; port 0 is any free one. On a loopback address every user of this machine may
    /// look. On any other, whoever has the whole address may, with the token that is made and logged once; nothing is
    /// encrypted. Default: nowhere.
    #[arg(long, env = "PUNCHLINE_PAGE", value_name = "HOST:PORT")]
    pub page: Option<HttpAddr>,
}

/// An address that only this machine reaches.
pub(super) fn own(text: &str) -> Result<HttpAddr, String> {
    match text.parse()? {
        HttpAddr(address) if !address.ip().is_loopback() => {
            Err("other hosts reach it; say 127.0.0.1:9465 or [::1]:9465".to_owned())
        }
        own => Ok(own),
    }
}

impl Page {
    /// Where, if anywhere.
    pub fn address(&self) -> Option<SocketAddr> {
        self.page.map(|HttpAddr(address)| address)
    }
}
