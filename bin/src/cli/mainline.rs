//! The 160-bit network of BitTorrent clients.

use std::{net::SocketAddrV4, str::FromStr, time::Duration};

use clap::{
    Args, Subcommand,
    builder::{BoolishValueParser, NonEmptyStringValueParser, RangedU64ValueParser},
};
use punchline_discovery::mainline::{Config, Id, Network};

use super::{
    asking::Timeout,
    time::length,
    values::{Listed, Many, all},
};

/// Where the network may be joined: a host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayIn(String);

impl FromStr for WayIn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form =
            || format!("'{text}' is not HOST:PORT; say it as 203.0.113.7:6881 or dht.example.org:6881");
        let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
        let named = !host.is_empty() && !host.contains([':', '/', ' ']);
        match port.parse::<u16>() {
            Ok(1..) if named => Ok(Self(text.to_owned())),
            _ => Err(form()),
        }
    }
}

impl Listed for WayIn {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

/// Whether and where a node finds peers there.
#[derive(Args, Clone, Debug)]
pub struct Joining {
    /// Find peers in a 160-bit network as that of BitTorrent clients, and tell there where this node is, signed with its
    /// key: who is in that network and knows the node's id finds it. --mainline-bootstrap and --mainline-public say it,
    /// too; without them, others join at this node.
    #[arg(long, env = "PUNCHLINE_MAINLINE", value_parser = BoolishValueParser::new())]
    pub mainline: bool,
    /// Which network.
    #[command(flatten)]
    pub network: Which,
}

/// Which network, and where in it.
#[derive(Args, Clone, Debug)]
pub struct Which {
    /// Join a 160-bit network there. Without it and --mainline-public, it is one of its own.
    #[arg(long, env = "PUNCHLINE_MAINLINE_BOOTSTRAP", value_name = "HOST:PORT")]
    pub mainline_bootstrap: Vec<Many<WayIn>>,
    /// Join the 160-bit network of all the world's BitTorrent clients. Anybody learns there where a node is who knows its
    /// id, and that this address asks. A node with services answers nobody there.
    #[arg(long, env = "PUNCHLINE_MAINLINE_PUBLIC", value_parser = BoolishValueParser::new())]
    pub mainline_public: bool,
    /// The UDP port for the 160-bit network. Default: 6881, or any that is free if that is taken.
    #[arg(long, env = "PUNCHLINE_MAINLINE_LISTEN", value_name = "IP:PORT")]
    pub mainline_listen: Option<SocketAddrV4>,
    /// How many nodes keep what is stored, and have to answer a search; also how many there are in one part of the table.
    /// Of fewer, values are lost sooner when nodes leave.
    #[arg(long, env = "PUNCHLINE_MAINLINE_BUCKET", value_name = "N", default_value = "20")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(4..=20))]
    pub mainline_bucket: usize,
    /// How many nodes a search asks at once. With more, it is faster, and costs more packets.
    #[arg(long, env = "PUNCHLINE_MAINLINE_PARALLEL", value_name = "N", default_value = "3")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=10))]
    pub mainline_parallel: usize,
    /// Who does not answer a query within this is taken to be gone: longer where lines are slow.
    #[arg(long, env = "PUNCHLINE_MAINLINE_ANSWER_WITHIN", value_name = "TIME", default_value = "2s")]
    pub mainline_answer_within: AnswerWithin,
    /// How often a part of the table in which nobody was looked for is refreshed; nodes that were silent for a third of it
    /// are asked whether they are there. A NAT that forgets soon wants it shorter.
    #[arg(long, env = "PUNCHLINE_MAINLINE_REFRESH", value_name = "TIME", default_value = "15m")]
    pub mainline_refresh: Timeout,
}

/// How long an answer is waited for: from 1 to 10 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerWithin(Duration);

impl FromStr for AnswerWithin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        length(text, Duration::from_secs(10), "say 2s or 5s; from 1 to 10 seconds").map(Self)
    }
}

impl Joining {
    /// None: it does not join.
    pub(crate) fn config(&self) -> Option<Config> {
        let joins = self.mainline || self.network.is_named();
        joins.then(|| self.network.config())
    }
}

impl Which {
    /// Whether it says where to join.
    pub(crate) fn is_named(&self) -> bool {
        self.mainline_public || !self.mainline_bootstrap.is_empty()
    }

    /// How a node behaves there.
    pub(crate) fn config(&self) -> Config {
        let ways_in = all(&self.mainline_bootstrap).into_iter().map(|WayIn(text)| text).collect();
        let mut config = Config::new(match self.mainline_public {
            true => Network::Public(ways_in),
            false => Network::Private(ways_in),
        });
        (config.bucket, config.parallel) = (self.mainline_bucket, self.mainline_parallel);
        config.answer_within = self.mainline_answer_within.0;
        config.refresh = self.mainline_refresh.duration();
        if let Some(listen) = self.mainline_listen {
            (config.ip, config.port) = (*listen.ip(), Some(listen.port()));
        }
        config
    }
}

/// `punchline dht`.
#[derive(Args, Debug)]
pub struct Dht {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What to do there.
#[derive(Debug, Subcommand)]
pub enum What {
    /// A node that others join at, and that keeps what they store: until it is told to stop.
    Start(Start),
    /// Print the nodes that are nearest to an id.
    FindNode(FindNode),
    /// Store a text, and print the key that it is found by. It is kept for two hours.
    Store(Store),
    /// Print what is stored under a key.
    FindValue(FindValue),
    /// Tell for a hash that a peer is at this host. It is kept for less than an hour.
    Announce(Announce),
    /// Print who was announced for a hash.
    FindPeers(FindPeers),
}

impl What {
    /// Its node.
    pub(crate) fn node(&self) -> &DhtNode {
        match self {
            Self::Start(start) => &start.node,
            Self::FindNode(find) => &find.node,
            Self::Store(store) => &store.node,
            Self::FindValue(find) => &find.node,
            Self::Announce(announce) => &announce.node,
            Self::FindPeers(find) => &find.node,
        }
    }
}

/// The node that does it.
#[derive(Args, Debug)]
pub struct DhtNode {
    /// Which network.
    #[command(flatten)]
    pub network: Which,
    /// Print one JSON object a line.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// How long to wait until the network is joined.
#[derive(Args, Debug)]
pub struct Joins {
    /// Give up if nobody answered within this.
    #[arg(long, env = "PUNCHLINE_TIMEOUT", value_name = "TIME", default_value = "30s")]
    pub timeout: Timeout,
}

/// `punchline dht start`.
#[derive(Args, Debug)]
pub struct Start {
    /// Its node.
    #[command(flatten)]
    pub node: DhtNode,
}

/// `punchline dht find-node`.
#[derive(Args, Debug)]
pub struct FindNode {
    /// 40 hexadecimal digits.
    pub id: Id,
    /// Its node.
    #[command(flatten)]
    pub node: DhtNode,
    /// How long to wait.
    #[command(flatten)]
    pub joins: Joins,
}

/// `punchline dht store`.
#[derive(Args, Debug)]
pub struct Store {
    /// What to store, up to 996 bytes.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub text: String,
    /// Its node.
    #[command(flatten)]
    pub node: DhtNode,
    /// How long to wait.
    #[command(flatten)]
    pub joins: Joins,
}

/// `punchline dht find-value`.
#[derive(Args, Debug)]
pub struct FindValue {
    /// 40 hexadecimal digits.
    pub key: Id,
    /// What it was signed with, if it was signed with one.
    #[arg(long, env = "PUNCHLINE_SALT", value_name = "TEXT", default_value = "")]
    pub salt: String,
    /// Its node.
    #[command(flatten)]
    pub node: DhtNode,
    /// How long to wait.
    #[command(flatten)]
    pub joins: Joins,
}

/// `punchline dht announce`.
#[derive(Args, Debug)]
pub struct Announce {
    /// 40 hexadecimal digits: a torrent's, or any.
    pub hash: Id,
    /// The port that the peer is at. Default: the one of this node.
    #[arg(long, env = "PUNCHLINE_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Its node.
    #[command(flatten)]
    pub node: DhtNode,
    /// How long to wait.
    #[command(flatten)]
    pub joins: Joins,
}

/// `punchline dht find-peers`.
#[derive(Args, Debug)]
pub struct FindPeers {
    /// 40 hexadecimal digits: a torrent's, or any.
    pub hash: Id,
    /// Its node.
    #[command(flatten)]
    pub node: DhtNode,
    /// How long to wait.
    #[command(flatten)]
    pub joins: Joins,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::FromArgMatches as _;

    use super::*;

    #[test]
    fn a_way_in_is_a_host_and_a_port() {
        for good in ["203.0.113.7:6881", "dht.example.org:25401", "localhost:1"] {
            assert!(good.parse::<WayIn>().is_ok(), "{good}");
        }
        for wrong in
            ["", "203.0.113.7", ":6881", "host:0", "host:65536", "[::1]:6881", "udp://host:1", "a b:1"]
        {
            assert!(wrong.parse::<WayIn>().is_err(), "{wrong}");
        }
    }

    fn joining(public: bool, ways_in: &[&str]) -> Joining {
        let mut arguments = Vec::new();
        arguments.extend(public.then(|| "--mainline-public".to_owned()));
        arguments.extend(ways_in.iter().map(|way_in| format!("--mainline-bootstrap={way_in}")));
        parsed(arguments).unwrap()
    }

    fn parsed(arguments: Vec<String>) -> Result<Joining, clap::Error> {
        let arguments = std::iter::once(String::new()).chain(arguments);
        let command = Joining::augment_args(clap::Command::new("test"));
        Joining::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    #[test]
    fn the_sizes_and_times_of_a_160_bit_network_are_settings() {
        let of = |flags: &[&str]| {
            let all = ["--mainline"].iter().chain(flags).map(|flag| (*flag).to_owned());
            parsed(all.collect()).map(|joining| joining.config().unwrap())
        };
        let usual = of(&[]).unwrap();
        assert_eq!((usual.bucket, usual.parallel), (20, 3));
        assert_eq!((usual.answer_within.as_secs(), usual.refresh.as_secs()), (2, 900));
        let flags = [
            "--mainline-bucket=8",
            "--mainline-parallel=5",
            "--mainline-answer-within=4s",
            "--mainline-refresh=2m",
        ];
        let other = of(&flags).unwrap();
        assert_eq!((other.bucket, other.parallel), (8, 5));
        assert_eq!((other.answer_within.as_secs(), other.refresh.as_secs()), (4, 120));
        for wrong in ["bucket=3", "bucket=21", "parallel=0", "answer-within=11s", "refresh=2h"] {
            assert!(of(&[&format!("--mainline-{wrong}")]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_node_joins_no_network_that_nobody_named_and_the_public_one_only_if_told() {
        assert!(joining(false, &[]).config().is_none());
        let private = joining(false, &["a:1,b:2"]).config().unwrap();
        assert_eq!(private.network, Network::Private(vec!["a:1".into(), "b:2".into()]));
        assert!(private.serves);
        let public = joining(true, &[]).config().unwrap();
        assert_eq!(public.network, Network::Public(Vec::new()));
        assert!(!public.serves, "it answers nobody there");
    }
}
