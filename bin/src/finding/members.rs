//! The namespaces that a node is in, or looks for members of.

use std::{fs::File, io::Read as _, path::Path};

use punchline_discovery::{
    Network,
    keys::{Namespace, SECRET_BYTES_MAX},
};

use super::dht;
use crate::{Unusable, cli};

/// How namespaces are named in a process: in which network, with which secret.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    /// None: there is no DHT to have them in.
    network: Option<Network>,
    secret: Option<Vec<u8>>,
}

impl Space {
    /// By the settings.
    ///
    /// # Errors
    /// If the network or the secret cannot be used.
    pub(crate) fn of(node: &cli::Node) -> Result<Self, Unusable> {
        let flags = &node.finding.dht;
        let secret = flags.namespace_secret.as_deref().map(secret).transpose()?;
        let is_there = !flags.bootstrap.is_empty() || !flags.dht_listen.is_empty();
        let network = is_there.then(|| dht::network(&flags.dht_network)).transpose()?;
        Ok(Self { network, secret })
    }

    /// In this network, for whoever knows the names.
    pub(crate) fn public(network: Network) -> Self {
        Self { network: Some(network), secret: None }
    }

    /// Those of these names.
    ///
    /// # Errors
    /// If one cannot be a namespace, or there is no DHT to have them in.
    pub(crate) fn namespaces(&self, names: &[String]) -> Result<Vec<Namespace>, Unusable> {
        let Some(first) = names.first() else { return Ok(Vec::new()) };
        let Some(network) = &self.network else {
            let remedy = "is found in a DHT: say --bootstrap <the address of a node of it>";
            return Err(Unusable(format!("--namespace {first} {remedy}")));
        };
        let namespace = |name: &String| match &self.secret {
            Some(secret) => Namespace::secret(network, name, secret),
            None => Namespace::public(network, name),
        };
        let namespaces = names.iter().map(namespace).collect::<Result<_, _>>();
        namespaces.map_err(|error| Unusable(format!("--namespace: {error}")))
    }

    /// Whether whoever knows a name finds its members.
    pub(crate) fn is_public(&self) -> bool {
        self.secret.is_none()
    }
}

/// Those that the settings name for the whole node.
///
/// # Errors
/// If one cannot be a namespace, or there is no DHT to have them in.
pub(crate) fn namespaces(node: &cli::Node) -> Result<Vec<Namespace>, Unusable> {
    Space::of(node)?.namespaces(&cli::all(&node.finding.dht.namespace))
}

/// What is in the file.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn secret(path: &Path) -> Result<Vec<u8>, Unusable> {
    let mut secret = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(SECRET_BYTES_MAX as u64 + 2).read_to_end(&mut secret));
    read.map_err(|error| Unusable(format!("--namespace-secret {}: {error}", path.display())))?;
    // An editor ends the line.
    let end = secret.trim_ascii_end().len();
    secret.truncate(end);
    Ok(secret)
}
