//! What the doctor says, as plain data. `design/doctor.md` shows it as JSON.

use serde::{Serialize, Serializer};

/// The version of the shape; a field is added without another one.
pub(crate) const VERSION: u32 = 1;

/// Everything that was checked.
#[derive(Debug, Serialize)]
pub(crate) struct Diagnosis {
    pub(crate) version: u32,
    /// The version of this program.
    pub(crate) punchline: &'static str,
    pub(crate) checks: Vec<Check>,
    pub(crate) bad: usize,
    pub(crate) warnings: usize,
    /// From the question to the verdict.
    pub(crate) took_ms: u64,
    pub(crate) expect: Expectation,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    pub(crate) check: &'static str,
    /// Which one, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    pub(crate) verdict: Verdict,
    /// The layer that fails, of an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) layer: Option<super::findings::Layer>,
    pub(crate) found: String,
    /// What to do; none if there is nothing to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

/// What is to be thought of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// All is well.
    Ok,
    /// It works, with less than there could be.
    Warning,
    /// Something has to be mended.
    Bad,
    /// It was not looked at.
    Skipped,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Bad => "bad",
            Self::Skipped => "skipped",
        }
    }
}

/// How peers will be reached from here, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// Peers behind any NAT can come in.
    DirectWithNearlyAll,
    /// A hole punch succeeds with all but symmetric NATs.
    DirectWithMost,
    /// A hole punch over TCP may succeed, and UDP does not get through.
    DirectOverTcp,
    /// Our own NAT is symmetric, and there is IPv6.
    DirectOverIpv6,
    /// Our own NAT is symmetric.
    DirectWithSome,
    /// The relay is reached, and nothing is known of the NAT.
    RelayedAtLeast,
    /// Nothing but a WebSocket gets out.
    RelayedOverHttps,
    /// No relay is reached.
    Nobody,
    /// No relay is known.
    NotKnown,
}

impl Expectation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DirectWithNearlyAll => "direct_with_nearly_all",
            Self::DirectWithMost => "direct_with_most",
            Self::DirectOverTcp => "direct_over_tcp",
            Self::DirectOverIpv6 => "direct_over_ipv6",
            Self::DirectWithSome => "direct_with_some",
            Self::RelayedAtLeast => "relayed_at_least",
            Self::RelayedOverHttps => "relayed_over_https",
            Self::Nobody => "nobody",
            Self::NotKnown => "not_known",
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::DirectWithNearlyAll => {
                "direct with nearly every peer: what comes from outside is let in"
            }
            Self::DirectWithMost => "direct with most peers; relayed with those behind a symmetric NAT",
            Self::DirectOverTcp => {
                "direct over TCP with many peers, since UDP does not get through; relayed with the others"
            }
            Self::DirectOverIpv6 => {
                "direct with peers that have IPv6, a public address or a mapped port; relayed with most others, since the \
                 NAT here is symmetric"
            }
            Self::DirectWithSome => {
                "direct with peers that have a public address or a mapped port; relayed with most others, since the NAT \
                 here is symmetric"
            }
            Self::RelayedAtLeast => {
                "relayed at least; whether direct cannot be said, since the kind of NAT here is not known"
            }
            Self::RelayedOverHttps => {
                "relayed only, over HTTPS; direct with peers in this network alone"
            }
            Self::Nobody => "nobody is reached through a relay until what is bad above is mended",
            Self::NotKnown => "not known without a relay; name one with --relay ADDR",
        }
    }
}

impl Serialize for Expectation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut expect = serializer.serialize_struct("Expectation", 2)?;
        expect.serialize_field("kind", self.name())?;
        expect.serialize_field("text", self.words())?;
        expect.end()
    }
}
