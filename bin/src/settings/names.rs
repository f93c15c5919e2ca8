//! Names of peers among the settings: an unknown one is told with the place where it stands.

use std::path::Path;

use super::SettingsError;
use crate::{
    cli::{self, Cli, Command},
    names::PeerRef,
};

/// What the names in `cli` are looked up in: read only if there are any.
///
/// # Errors
/// The first that nobody has. `origin` says where the value of a flag stands; `file`: where tables come from.
pub(super) fn check(
    cli: &Cli,
    file: Option<&Path>,
    origin: impl Fn(&str, &str) -> Option<String>,
) -> Result<(), SettingsError> {
    let unknown = |peer: &PeerRef| match peer {
        PeerRef::Id(_) | PeerRef::Authority(_) => None,
        // That there is no place for names is told by whoever looks for the identity.
        PeerRef::Name(_) => crate::names_file(&cli.common).ok()?.resolve(peer).err(),
    };
    for (flag, peer) in of_flags(&cli.command) {
        if let Some(error) = unknown(&peer) {
            let origin = origin(flag, &peer.to_string());
            return Err(SettingsError::Name { flag, error: Box::new(error), origin });
        }
    }
    let (Command::Run(run), Some(path)) = (&cli.command, file) else { return Ok(()) };
    let forwards = run.forward.iter().map(|table| ("forward", table.way.peer.iter().cloned().collect()));
    let exposes = run.expose.iter().map(|table| ("expose", cli::all(&table.access.allow)));
    let tables = forwards.enumerate().chain(exposes.enumerate());
    for (at, (key, peers)) in tables {
        let peers: Vec<PeerRef> = peers;
        if let Some(error) = peers.iter().find_map(unknown) {
            let (path, table) = (path.to_owned(), super::file::place(key, at));
            return Err(SettingsError::Table { path, table, cause: error.to_string() });
        }
    }
    Ok(())
}

/// The peers that flags name.
fn of_flags(command: &Command) -> Vec<(&'static str, PeerRef)> {
    match command {
        Command::Client(client) => client.peer.iter().map(|peer| ("peer", peer.clone())).collect(),
        Command::Forward(forward) => {
            forward.way.peer.iter().map(|peer| ("peer", peer.clone())).collect()
        }
        Command::Expose(expose) => {
            cli::all(&expose.access.allow).into_iter().map(|peer| ("allow", peer)).collect()
        }
        _ => Vec::new(),
    }
}
