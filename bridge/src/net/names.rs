//! Looks names up the way every program on the host does: with the system's own resolver, which knows the
//! hosts file, local names and VPNs, and reads `/etc/resolv.conf` again when it changes.
//!
//! It blocks a thread for as long as it takes, up to half a minute where no server answers. Whoever waits
//! does so for a few seconds; lookups of one name share a thread; and there are only so many.

use std::{
    fmt, io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use hickory_resolver::{TokioResolver, proto::rr::RData};
use libp2p::Multiaddr;
use tokio::{
    sync::Semaphore,
    task::AbortHandle,
    time::{Instant, timeout},
};

use crate::error::Family;

/// For the answer to one lookup. Half of what a dial may take in all.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);

/// Lookups under way at once, each of which may block a thread.
const LOOKUPS_MAX: usize = 16;

/// Why a name leads nowhere. Its text names the name, who was asked, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// The resolver says so.
    #[error("the name {name} cannot be resolved: {cause}; {servers}: {CHECK}")]
    Unresolved { name: String, cause: String, servers: Servers },
    /// Nobody answered.
    #[error("the name {name} was not resolved within {} s; {servers}: {CHECK}", deadline.as_secs())]
    Deadline { name: String, deadline: Duration, servers: Servers },
    /// It has addresses, but not of the family that was asked for.
    #[error("the name {name} has no {family} address")]
    NoAddress { name: String, family: Family },
    /// Its TXT records name no address that fits.
    #[error(
        "_dnsaddr.{name} has no TXT record that says dnsaddr=<the relay's address>/p2p/<its peer id>; check that the name is right"
    )]
    NoRecord { name: String },
    /// It stands for an address that is never dialled.
    #[error(
        "a name stands for {address}, which is never dialled: link-local, metadata, multicast or reserved"
    )]
    Forbidden { address: Multiaddr },
    /// Too much at once.
    #[error("{limit} names are being looked up already; {name} has to wait for one of them")]
    Busy { name: String, limit: usize },
    /// One name leads to another, and so on.
    #[error("resolving {address} takes more than {limit} lookups")]
    TooManyLookups { address: Multiaddr, limit: usize },
}

const CHECK: &str = "is the network up, and the name right? An IP address works without DNS";

/// The name servers that the system asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Servers(Vec<String>);

impl Servers {
    fn current() -> Self {
        Self::of(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default())
    }

    fn of(resolv_conf: &str) -> Self {
        let mut words = resolv_conf.lines().map(str::split_whitespace);
        let server = |mut words: std::str::SplitWhitespace<'_>| match words.next() {
            Some("nameserver") => words.next().map(str::to_owned),
            _ => None,
        };
        Self(std::iter::from_fn(|| words.next()).filter_map(server).collect())
    }
}

const RESOLV_CONF: &str = "/etc/resolv.conf";

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_empty() {
            true => write!(f, "{RESOLV_CONF} names no server"),
            false => write!(f, "asked {}, as {RESOLV_CONF} says", self.0.join(", ")),
        }
    }
}

type Answer = Result<Arc<[IpAddr]>, NameError>;

struct UnderWay {
    name: String,
    since: Instant,
    /// Tells when it is over, even if nobody waits for it any more.
    thread: AbortHandle,
    answer: Shared<BoxFuture<'static, Answer>>,
}

/// The lookups of one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Names {
    ask: fn(&str) -> io::Result<Vec<IpAddr>>,
    under_way: Arc<Mutex<Vec<UnderWay>>>,
    records: Arc<Semaphore>,
}

impl Default for Names {
    fn default() -> Self {
        Self::asking(system)
    }
}

fn system(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|socket| socket.ip()).collect())
}

impl Names {
    /// `ask` blocks until it knows the addresses of a name.
    pub(super) fn asking(ask: fn(&str) -> io::Result<Vec<IpAddr>>) -> Self {
        Self { ask, under_way: Arc::default(), records: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// The addresses of a name, all of them or those of one family; at least one.
    pub(crate) async fn addresses(
        &self,
        name: &str,
        family: Option<Family>,
    ) -> Result<Vec<IpAddr>, NameError> {
        let lookup = self.lookup(name)?;
        let Ok(answer) = timeout(LOOKUP_DEADLINE, lookup).await else {
            let servers = Servers::current();
            return Err(NameError::Deadline {
                name: name.to_owned(),
                deadline: LOOKUP_DEADLINE,
                servers,
            });
        };
        let answer = answer?;
        let wanted = |ip: &&IpAddr| family.is_none_or(|family| Family::of(**ip) == family);
        let found: Vec<IpAddr> = answer.iter().filter(wanted).copied().collect();
        match (found.is_empty(), family) {
            (true, Some(family)) => Err(NameError::NoAddress { name: name.to_owned(), family }),
            _ => Ok(found),
        }
    }

    /// Joins a lookup that is under way, unless it has been for so long that its question may have gone to
    /// a network that this host has left; else begins one.
    fn lookup(&self, name: &str) -> Result<Shared<BoxFuture<'static, Answer>>, NameError> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|lookup| !lookup.thread.is_finished());
        let fresh = |lookup: &&UnderWay| lookup.name == name && lookup.since.elapsed() < LOOKUP_DEADLINE;
        if let Some(lookup) = under_way.iter().find(fresh) {
            return Ok(lookup.answer.clone());
        }
        if under_way.len() >= LOOKUPS_MAX {
            return Err(NameError::Busy { name: name.to_owned(), limit: LOOKUPS_MAX });
        }
        let (ask, asked) = (self.ask, name.to_owned());
        let blocking = tokio::task::spawn_blocking(move || answer(ask(&asked), asked));
        let (asked, since, thread) = (name.to_owned(), Instant::now(), blocking.abort_handle());
        let ended = move |result: Result<Answer, tokio::task::JoinError>| {
            result.unwrap_or_else(|error| Err(unresolved(asked, &error)))
        };
        let answer = blocking.map(ended).boxed().shared();
        under_way.push(UnderWay { name: name.to_owned(), since, thread, answer: answer.clone() });
        Ok(answer)
    }

    /// The addresses that the TXT records of `_dnsaddr.<name>` tell. The system's resolver does not do
    /// such records; this one reads its settings anew each time.
    pub(crate) async fn records(&self, name: &str) -> Result<Vec<Multiaddr>, NameError> {
        let Ok(_permit) = self.records.try_acquire() else {
            return Err(NameError::Busy { name: name.to_owned(), limit: LOOKUPS_MAX });
        };
        let fail = |error: &dyn fmt::Display| unresolved(name.to_owned(), error);
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        let resolver = resolver.map_err(|error| fail(&error))?;
        let lookup = resolver.txt_lookup(format!("_dnsaddr.{name}."));
        let Ok(answer) = timeout(LOOKUP_DEADLINE, lookup).await else {
            let servers = Servers::current();
            return Err(NameError::Deadline {
                name: name.to_owned(),
                deadline: LOOKUP_DEADLINE,
                servers,
            });
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => {
                return Err(NameError::NoRecord { name: name.to_owned() });
            }
            Err(error) => return Err(fail(&error)),
        };
        let texts = answer.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(text) => String::from_utf8(text.txt_data.concat()).ok(),
            _ => None,
        });
        Ok(texts.filter_map(|text| text.strip_prefix("dnsaddr=")?.parse().ok()).collect())
    }
}

fn answer(asked: io::Result<Vec<IpAddr>>, name: String) -> Answer {
    match asked {
        Ok(mut found) => {
            // One entry per kind of socket.
            let mut seen = std::collections::HashSet::new();
            found.retain(|ip| seen.insert(*ip));
            match found.is_empty() {
                true => Err(unresolved(name, &"it has no address")),
                false => Ok(found.into()),
            }
        }
        Err(error) => Err(unresolved(name, &error)),
    }
}

fn unresolved(name: String, cause: &dyn fmt::Display) -> NameError {
    NameError::Unresolved { name, cause: cause.to_string(), servers: Servers::current() }
}

#[cfg(test)]
mod tests;
