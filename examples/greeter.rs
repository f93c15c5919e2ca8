//! What the examples share: the service, generated from `greeter.proto`, and a node's settings.

#![allow(missing_docs)]

use anyhow::{Context as _, Result};
use punchline_bridge::{Config, addr::GlobalScope};

tonic::include_proto!("greeter");

/// The defaults, but that addresses in `ranges` count as public: to try this on one machine, say
/// `127.0.0.0/8`, since nobody would punch a hole to a loopback address otherwise.
pub fn config(ranges: &[String]) -> Result<Config> {
    let parse = |range: &String| range.parse().with_context(|| format!("`{range}` is not a range"));
    let assumed = ranges.iter().map(parse).collect::<Result<_>>()?;
    Ok(Config { global: GlobalScope::with_assumed(assumed), ..Config::default() })
}

/// The README's Rust compiles: `cargo test` builds it as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
