//! The namespaces that a node is in, or looks for members of.

use std::{fs::File, io::Read as _, path::Path};

use punchline_discovery::{
    Network,
    keys::{Namespace, SECRET_BYTES_MAX},
};

use super::dht;
use crate::{Unusable, cli};

/// Those that the settings name.
///
/// # Errors
/// If one cannot be a namespace, or there is no DHT to have them in.
pub(crate) fn namespaces(node: &cli::Node) -> Result<Vec<Namespace>, Unusable> {
    let flags = &node.finding.dht;
    let names = cli::all(&flags.namespace);
    let network = dht::network(&flags.dht_network)?;
    let secret = flags.namespace_secret.as_deref().map(secret).transpose()?;
    if !names.is_empty() && flags.bootstrap.is_empty() && flags.dht_listen.is_empty() {
        let remedy = "is found in a DHT: say --bootstrap <the address of a node of it>";
        return Err(Unusable(format!("--namespace {} {remedy}", names[0])));
    }
    named(&network, &names, secret.as_deref())
}

/// Those of these names.
///
/// # Errors
/// If one cannot be a namespace.
pub(crate) fn named(
    network: &Network,
    names: &[String],
    secret: Option<&[u8]>,
) -> Result<Vec<Namespace>, Unusable> {
    let namespace = |name: &String| match secret {
        Some(secret) => Namespace::secret(network, name, secret),
        None => Namespace::public(network, name),
    };
    let namespaces = names.iter().map(namespace).collect::<Result<_, _>>();
    namespaces.map_err(|error| Unusable(format!("--namespace: {error}")))
}

fn secret(path: &Path) -> Result<Vec<u8>, Unusable> {
    let mut secret = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(SECRET_BYTES_MAX as u64 + 2).read_to_end(&mut secret));
    read.map_err(|error| Unusable(format!("--namespace-secret {}: {error}", path.display())))?;
    // An editor ends the line.
    let end = secret.trim_ascii_end().len();
    secret.truncate(end);
    Ok(secret)
}
