//! What `expose`, `forward` and `run` are told, as flags and as tables of the settings file.

use std::{fmt, num::NonZeroUsize, path::PathBuf, str::FromStr};

use clap::{Args, builder::BoolishValueParser};
use libp2p::Multiaddr;
use punchline_bridge::{RelayLocator, Service};

use super::{ConnectTimeout, Many, Node, Patience, ticket::Lifetime};
use crate::{access::Ticket, names::PeerRef};

/// `punchline expose`.
#[derive(Args, Debug)]
pub struct Expose {
    /// Its node.
    #[command(flatten)]
    pub node: Node,
    /// What to make reachable, by a name of your choice. Unless peers are named, a ticket is made and the command
    /// printed that uses it: whoever runs that, elsewhere, may use it, and nobody else.
    #[arg(value_name = "NAME", requires = "target")]
    pub name: Option<Service>,
    /// Where the program behind that name listens; a port alone is one of this machine (127.0.0.1).
    #[arg(value_name = "PORT|HOST:PORT|unix:PATH", value_parser = near)]
    pub target: Option<SocketName>,
    /// The same for any number of programs, as `kaspad=127.0.0.1:16111` or `grpc=unix:/run/app.sock`, for the peers that
    /// are named.
    #[arg(long, env = "PUNCHLINE_SERVICE", value_name = "NAME=TARGET")]
    pub service: Vec<Many<NamedTarget>>,
    /// How long the printed ticket opens new connections, as 90s, 15m, 1h or 7d. Those that are open then stay.
    #[arg(long, env = "PUNCHLINE_EXPIRES", value_name = "TIME", default_value = "1h")]
    pub expires: Lifetime,
    /// Print the command as a QR code too.
    #[arg(long, env = "PUNCHLINE_QR", value_parser = BoolishValueParser::new())]
    pub qr: bool,
    /// For whom.
    #[command(flatten)]
    pub access: Access,
}

/// Who may use an exposed service, and how much of it. Nobody may unless one of the first four says so.
#[derive(Args, Clone, Debug)]
pub struct Access {
    /// Let this peer in: the id that `punchline id --of forward` prints there, or the name that `punchline peers` shows
    /// here.
    #[arg(long, env = "PUNCHLINE_ALLOW", value_name = "ID|NAME")]
    pub allow: Vec<Many<PeerRef>>,
    /// Let the peers of this file in, one id or name a line, `#` for comments. Read again on SIGHUP; whoever
    /// is no longer listed is cut off.
    #[arg(long, env = "PUNCHLINE_ALLOW_FILE", value_name = "FILE")]
    pub allow_file: Option<PathBuf>,
    /// Let every peer in: whoever learns this node's id and a relay of it may use the service.
    #[arg(long, env = "PUNCHLINE_ALLOW_ANY", value_parser = BoolishValueParser::new())]
    pub allow_any: bool,
    /// Let holders of a ticket in and nobody else. Tickets are also taken beside --allow and --allow-file.
    #[arg(long, env = "PUNCHLINE_TICKETS", value_parser = BoolishValueParser::new())]
    pub tickets: bool,
    /// Most connections to a service at once.
    #[arg(long, env = "PUNCHLINE_MAX_CONNECTIONS", default_value = "256")]
    pub max_connections: NonZeroUsize,
    /// Most connections of one peer to a service at once, up to --max-streams-per-peer, which is the
    /// default. Several services share those, equally unless some want less.
    #[arg(long, env = "PUNCHLINE_MAX_CONNECTIONS_PER_PEER", value_name = "N")]
    pub max_connections_per_peer: Option<NonZeroUsize>,
}

impl Access {
    /// Whether nobody is let in.
    pub fn is_empty(&self) -> bool {
        let Self { allow, allow_file, allow_any, tickets, .. } = self;
        allow.is_empty() && allow_file.is_none() && !allow_any && !tickets
    }
}

/// One `[[expose]]` table of the settings file.
#[derive(Args, Debug)]
pub struct ExposeTable {
    /// The name of the service.
    #[arg(long, value_name = "NAME")]
    pub service: Service,
    /// Where the program behind it listens.
    #[arg(long, value_name = "HOST:PORT|unix:PATH", value_parser = target)]
    pub target: SocketName,
    /// How long its streams wait for a path, if not as long as the top of the file says.
    #[arg(long, value_name = "TIME")]
    pub patience: Option<Patience>,
    /// Namespaces in which it is found, besides those at the top of the file: all services of this node are found in each.
    #[cfg(feature = "kad")]
    #[arg(long, value_name = "NAME")]
    pub namespace: Vec<Many<String>>,
    /// For whom.
    #[command(flatten)]
    pub access: Access,
}

/// `punchline forward`.
#[derive(Args, Debug)]
pub struct Forward {
    /// Its node.
    #[command(flatten)]
    pub node: Node,
    /// Whereto.
    #[command(flatten)]
    pub way: Way,
}

/// Where a forward listens and leads.
#[derive(Args, Clone, Debug)]
pub struct Way {
    /// The peer that exposes the service: its id, its name here, or authority:ID, which is looked up in the DHT. Not needed
    /// with --ticket or a namespace.
    #[arg(long, env = "PUNCHLINE_PEER", value_name = "ID|NAME")]
    pub peer: Option<PeerRef>,
    /// The name of the service there; not needed with --ticket.
    #[arg(long, env = "PUNCHLINE_SERVICE", value_name = "NAME")]
    pub service: Option<Service>,
    /// Listen here for the programs that use the service; port 0 is any free one.
    #[arg(long, env = "PUNCHLINE_LOCAL", value_name = "HOST:PORT|unix:PATH")]
    pub local: SocketName,
    /// Where the peer may be reached, besides through the relays.
    #[arg(long, env = "PUNCHLINE_ADDR", value_name = "ADDR")]
    pub addr: Vec<Many<Multiaddr>>,
    /// What the peer's `punchline ticket new` printed: it says peer, service, relays and addresses.
    #[arg(long, env = "PUNCHLINE_TICKET", value_name = "TICKET", hide_env_values = true)]
    pub ticket: Option<Ticket>,
    /// For a namespace: give each of up to so many members that serve it a loopback address of its own, counted up from that
    /// of --local, where it stays while it is there; who goes is replaced. For programs that know their peers by address.
    #[arg(long, env = "PUNCHLINE_MAX", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub max: Option<u8>,
    /// Write the addresses of --max at which somebody is to this file, one a line, whenever they change.
    #[arg(long, env = "PUNCHLINE_ADDRESSES_FILE", value_name = "FILE")]
    pub addresses_file: Option<PathBuf>,
    /// Most local connections at once, up to --max-streams-per-peer, which is the default; further ones wait
    /// until one ends. Several forwards to one peer share those, equally unless some want less.
    #[arg(long, env = "PUNCHLINE_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<NonZeroUsize>,
    /// How long the way to the peer may take, whichever it is, until a local connection is turned away. The default is
    /// short of the 10 s after which kaspad gives up on a peer and stays away for half a minute.
    #[arg(long, env = "PUNCHLINE_CONNECT_TIMEOUT", value_name = "TIME", default_value = "8s")]
    pub connect_timeout: ConnectTimeout,
}

/// One `[[forward]]` table of the settings file.
#[derive(Args, Debug)]
pub struct ForwardTable {
    /// Relays that lead to the peer, besides those at the top of the file.
    #[arg(long, value_name = "ADDR")]
    pub relay: Vec<Many<RelayLocator>>,
    /// How long its streams wait for a path, if not as long as the top of the file says.
    #[arg(long, value_name = "TIME")]
    pub patience: Option<Patience>,
    /// Without a peer: any member of these serves, in place of the namespaces at the top of the file.
    #[cfg(feature = "kad")]
    #[arg(long, value_name = "NAME")]
    pub namespace: Vec<Many<String>>,
    /// Whereto.
    #[command(flatten)]
    pub way: Way,
}

/// `punchline run`.
#[derive(Args, Debug)]
pub struct Run {
    /// Its node.
    #[command(flatten)]
    pub node: Node,
    /// The `[[expose]]` tables of the settings file.
    #[arg(skip)]
    pub expose: Vec<ExposeTable>,
    /// The `[[forward]]` tables of the settings file.
    #[arg(skip)]
    pub forward: Vec<ForwardTable>,
}

/// A service and where the program behind it listens: `NAME=TARGET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTarget {
    /// What peers ask for.
    pub service: Service,
    /// Where their connections lead.
    pub target: SocketName,
}

impl FromStr for NamedTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "say NAME=HOST:PORT or NAME=unix:PATH";
        let (service, place) = text.split_once('=').ok_or(form)?;
        let service = service.parse().map_err(|error| format!("{error}; {form}"))?;
        Ok(Self { service, target: target(place)? })
    }
}

/// The name of a socket on this machine, or for TCP in its neighbourhood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketName {
    /// `HOST:PORT`.
    Tcp {
        /// An IP address or a name, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// The longest path of a Unix socket: `sun_path` has 108 bytes, and ends with a zero.
const UNIX_PATH_BYTES_MAX: usize = 107;

impl FromStr for SocketName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err(format!("the path is empty; {SOCKET_FORM}")),
                1..=UNIX_PATH_BYTES_MAX => Ok(Self::Unix(path.into())),
                length => Err(format!(
                    "the path of a Unix socket has at most {UNIX_PATH_BYTES_MAX} bytes, this one has {length}"
                )),
            };
        }
        if let Some(fault) = no_socket(text) {
            return Err(fault);
        }
        let (host, port) = text.rsplit_once(':').ok_or(SOCKET_FORM)?;
        let port = port.parse().map_err(|_| format!("`{port}` is no port; {SOCKET_FORM}"))?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(ip) => ip,
            None if host.contains(':') => return Err(format!("put [ and ] around {host}")),
            None => host,
        };
        match host {
            "" => Err(format!("there is no host; {SOCKET_FORM}")),
            host => Ok(Self::Tcp { host: host.to_owned(), port }),
        }
    }
}

const SOCKET_FORM: &str = "say HOST:PORT or unix:PATH";

/// What is meant by something that looks like a socket and is none.
fn no_socket(text: &str) -> Option<String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let usual = if scheme == "https" { 443 } else { 80 };
        let place = match authority.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
            _ => format!("{authority}:{usual}"),
        };
        return Some(format!("`{text}` is a URL, and bytes are carried as they are: say {place}"));
    }
    let (kind, rest) = text.split_once(':')?;
    match kind {
        "udp" => {
            Some("UDP is not carried, only TCP and Unix sockets; say HOST:PORT or unix:PATH".to_owned())
        }
        "tcp" => Some(format!("leave `tcp:` out, and say {}", rest.trim_start_matches('/'))),
        _ => None,
    }
}

/// A target by its port alone, on this machine, or as any other.
fn near(text: &str) -> Result<SocketName, String> {
    match text.parse::<u16>() {
        Ok(port) => target(&format!("127.0.0.1:{port}")),
        Err(_) => target(text).map_err(|error| error.replace(SOCKET_FORM, NEAR_FORM)),
    }
}

const NEAR_FORM: &str = "say PORT, HOST:PORT or unix:PATH";

/// A socket that can be connected to.
fn target(text: &str) -> Result<SocketName, String> {
    match text.parse()? {
        SocketName::Tcp { port: 0, .. } => Err("nothing listens on port 0".to_owned()),
        target => Ok(target),
    }
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_socket_is_written_as_it_was_read() {
        for text in ["127.0.0.1:16111", "node.local:80", "[::1]:0", "unix:/run/app.sock", "unix:a:b"] {
            assert_eq!(text.parse::<SocketName>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_socket_is_refused_with_the_form() {
        for (text, hint) in [
            ("16111", "HOST:PORT or unix:PATH"),
            (":80", "no host"),
            ("a:", "`` is no port"),
            ("a:70000", "`70000` is no port"),
            ("::1:80", "put [ and ]"),
            ("unix:", "empty"),
            (
                "http://localhost:8000/index.html",
                "a URL, and bytes are carried as they are: say localhost:8000",
            ),
            ("https://example.org", "say example.org:443"),
            ("udp:127.0.0.1:53", "UDP is not carried, only TCP and Unix sockets"),
            ("tcp:127.0.0.1:53", "say 127.0.0.1:53"),
            ("tcp://127.0.0.1:53", "say 127.0.0.1:53"),
        ] {
            let error = text.parse::<SocketName>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn a_unix_path_of_the_longest_length_is_taken_and_one_byte_more_is_not() {
        let longest = format!("unix:{}", "a".repeat(UNIX_PATH_BYTES_MAX));
        assert!(longest.parse::<SocketName>().is_ok());
        let error = format!("{longest}a").parse::<SocketName>().unwrap_err();
        assert!(error.contains("at most 107"), "{error}");
    }

    #[test]
    fn a_port_alone_is_one_of_this_machine() {
        assert_eq!(near("8000").unwrap().to_string(), "127.0.0.1:8000");
        assert_eq!(near("host:8000").unwrap().to_string(), "host:8000");
        for (text, hint) in
            [("0", "nothing listens on port 0"), ("web", NEAR_FORM), ("70000", NEAR_FORM)]
        {
            let error = near(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn a_target_has_a_name_and_a_port() {
        let named: NamedTarget = "kaspad=127.0.0.1:16111".parse().unwrap();
        assert_eq!(named.service.as_str(), "kaspad");
        assert_eq!(named.target.to_string(), "127.0.0.1:16111");
        for (text, hint) in [
            ("127.0.0.1:16111", "NAME=HOST:PORT"),
            ("=a:1", "1 to 64 bytes"),
            ("a=b:0", "port 0"),
            ("a b=c:1", "not allowed in a service name"),
        ] {
            let error = text.parse::<NamedTarget>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
