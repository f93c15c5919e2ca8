//! What the demo takes.

use clap::{Args, builder::BoolishValueParser};

use super::{metrics::HttpAddr, page};

/// `punchline demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// Print the result as one JSON object instead of a timeline and a table.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// Show the client to a browser at http://HOST:PORT/, on this machine. Each scene then goes on for some seconds.
    #[arg(long, env = "PUNCHLINE_PAGE", value_name = "HOST:PORT", value_parser = page::own)]
    pub page: Option<HttpAddr>,
}
