//! Where a node or a relay tells numbers about itself.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
};

use clap::{Args, builder::BoolishValueParser};

/// Where a node or a relay tells numbers about itself.
#[derive(Args, Clone, Debug)]
pub struct Metrics {
    /// Tell Prometheus how it goes at http://HOST:PORT/metrics, and probes at /healthz whether the process answers and at
    /// /readyz whether it is usable. HOST is an IP address or `localhost`; port 0 is any free one. An address that
    /// other hosts reach takes --metrics-public as well. Default: nowhere.
    #[arg(long, env = "PUNCHLINE_METRICS", value_name = "HOST:PORT")]
    pub metrics: Option<HttpAddr>,
    /// Let --metrics name an address that other hosts reach. Nobody is asked who it is there: whoever comes reads how
    /// many peers, streams and bytes there are, though not whose.
    #[arg(long, env = "PUNCHLINE_METRICS_PUBLIC", value_parser = BoolishValueParser::new())]
    pub metrics_public: bool,
}

impl Metrics {
    /// Where, if anywhere.
    ///
    /// # Errors
    /// If others reach it, and it was not said that this is meant.
    pub fn address(&self) -> Result<Option<SocketAddr>, String> {
        match self.metrics {
            Some(HttpAddr(address)) if !address.ip().is_loopback() && !self.metrics_public => {
                Err(format!(
                    "--metrics {address} lets other hosts read how many peers and bytes there are; say 127.0.0.1 instead, or \
                     --metrics-public if it is meant"
                ))
            }
            Some(HttpAddr(address)) => Ok(Some(address)),
            None => Ok(None),
        }
    }
}

/// An IP address or `localhost`, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpAddr(pub(super) SocketAddr);

impl fmt::Display for HttpAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for HttpAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "say HOST:PORT, as 127.0.0.1:9464 or [::1]:9464";
        if let Some(port) = text.strip_prefix("localhost:") {
            let port = port.parse().map_err(|_| format!("`{port}` is no port; {form}"))?;
            return Ok(Self((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse().map(Self).map_err(|error| format!("{error}; {form}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(text: &str, metrics_public: bool) -> Result<Option<SocketAddr>, String> {
        Metrics { metrics: Some(text.parse().unwrap()), metrics_public }.address()
    }

    #[test]
    fn an_address_that_others_reach_must_be_meant() {
        for own in ["127.0.0.1:9464", "[::1]:9464", "localhost:9464", "127.8.8.8:0"] {
            assert!(address(own, false).unwrap().is_some());
        }
        for open in ["0.0.0.0:9464", "[::]:9464", "192.168.1.2:9464"] {
            assert!(address(open, false).unwrap_err().contains("--metrics-public"));
            assert!(address(open, true).unwrap().is_some());
        }
        for text in ["9464", ":9464", "localhost:http", "example.org:9464"] {
            assert!(text.parse::<HttpAddr>().unwrap_err().contains("HOST:PORT"), "{text}");
        }
    }
}
