//! Why an address cannot be listened on, and what to do about it.

use std::{fmt, io, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize, Serializer};

/// Addresses of this host that a message names; a host with many bridges has hundreds.
const NAMED_MAX: usize = 8;

/// Why an address cannot be listened on. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenFailure {
    /// No interface of this host has the address.
    #[error(
        "{error}: {}; a public address that a router or cloud maps to this host is not on it, so listen on \
         every interface (/ip4/0.0.0.0 or /ip6/::)",
        only(ours)
    )]
    NotOurs {
        /// What the system said.
        error: SystemError,
        /// The addresses that this host has, of the same family; empty if the system does not tell.
        ours: Vec<IpAddr>,
    },
    /// The port is for privileged programs.
    #[error(
        "{error}: port {port} is below 1024 and needs a privilege; choose a higher one, or grant it with \
         `setcap cap_net_bind_service=+ep PROGRAM` or, in a systemd unit, AmbientCapabilities=CAP_NET_BIND_SERVICE"
    )]
    Privileged {
        /// What the system said.
        error: SystemError,
        /// Which one.
        port: u16,
    },
    /// Another socket has the port.
    #[error("{error}: {protocol} port {port} is taken{}; stop it or choose another port", by(occupant.as_ref()))]
    InUse {
        /// What the system said.
        error: SystemError,
        /// The protocol that the port belongs to.
        protocol: Protocol,
        /// Which one.
        port: u16,
        /// Who listens there, if the system tells.
        occupant: Option<Occupant>,
    },
    /// The system does not speak this family.
    #[error("{error}: this host has no {family}; leave the address out, or switch {family} on")]
    NoFamily {
        /// What the system said.
        error: SystemError,
        /// Which one.
        family: Family,
    },
    /// No interface has an address of this family at present. One that comes later is listened on.
    #[error("no interface has an {family} address; one that comes later will be listened on")]
    NoAddress {
        /// Which one.
        family: Family,
    },
    /// It is no address of a transport of ours.
    #[error("only /ip4 or /ip6, then /tcp/PORT or /udp/PORT/quic-v1, can be listened on")]
    Unsupported,
    /// The system did not say in time which addresses the listener has.
    #[error("the system did not tell the addresses of the interfaces within {:.1} s", deadline.as_secs_f32())]
    Unreported {
        /// How long we waited.
        deadline: Duration,
    },
    /// Anything else that the system says.
    #[error("{error}")]
    System {
        /// What it said.
        error: SystemError,
    },
    /// Anything else that the transport says.
    #[error("{cause}")]
    Transport {
        /// What it said.
        cause: String,
    },
}

impl Serialize for ListenFailure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An error number of the operating system; its text names the number, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemError(pub i32);

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

/// What a port belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP, for QUIC.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A family of IP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A program that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// The id of its process.
    pub pid: u32,
    /// Its name.
    pub program: String,
}

fn only(ours: &[IpAddr]) -> String {
    if ours.is_empty() {
        return "no interface of this host has it".to_owned();
    }
    let named: Vec<String> = ours.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = match ours.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("this host has {}{more}", named.join(", "))
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, program } = self;
        write!(f, "{program} (process {pid})")
    }
}

fn by(occupant: Option<&Occupant>) -> String {
    match occupant {
        Some(occupant) => format!(" by {occupant}"),
        None => " by a program that may not be seen (`ss -lntup` as root shows it)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_hundreds_of_addresses_names_a_few() {
        let ours: Vec<IpAddr> = (0..=255).map(|last| IpAddr::from([172, 17, 0, last])).collect();
        let text = only(&ours);
        assert!(text.contains("172.17.0.7") && text.ends_with("and 248 more"), "{text}");
        assert!(!text.contains("172.17.0.8,"), "{text}");
    }
}
