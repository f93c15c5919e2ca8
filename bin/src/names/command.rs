//! `punchline peers`: lists, gives and takes back names.

use serde_json::{Map, Value};

use super::{EditError, NamesError, NamesFile};
use crate::{
    Unusable,
    cli::peers::{Command, Peers},
};

/// Does what was asked for and returns. `check`: only whether the file of names is usable.
///
/// # Errors
/// If the file cannot be used, a name is taken, or there is none.
pub(crate) fn run(peers: Peers, file: &NamesFile, check: bool) -> anyhow::Result<()> {
    match peers.command {
        _ if check => file.read().map_err(unusable).and_then(|_| crate::usable()),
        Some(_) if peers.json => Err(Unusable("--json is for the list of names".to_owned()).into()),
        None => list(file, peers.json),
        Some(Command::Name { peer, name }) => {
            file.name(peer, &name).map_err(of_edit)?;
            crate::print_line(&format!("{peer} is `{name}` here"))
        }
        Some(Command::Forget { peer }) => {
            let (name, peer) = file.forget(&peer).map_err(of_edit)?;
            crate::print_line(&format!("{peer} is no longer called `{name}`"))
        }
    }
}

fn list(file: &NamesFile, json: bool) -> anyhow::Result<()> {
    let names = file.read().map_err(unusable)?;
    if json {
        let named = |(name, peer): (&super::PeerName, libp2p::PeerId)| {
            (name.to_string(), Value::String(peer.to_string()))
        };
        return crate::print_line(
            &Value::Object(names.iter().map(named).collect::<Map<_, _>>()).to_string(),
        );
    }
    let width = names.iter().map(|(name, _)| name.as_str().len()).max();
    let Some(width) = width else {
        let place = file.path().display();
        return crate::print_line(&format!(
            "no peer has a name; `punchline peers name <ID> <NAME>` gives one, in {place}"
        ));
    };
    names.iter().try_for_each(|(name, peer)| crate::print_line(&format!("{name:<width$}  {peer}")))
}

/// What is wrong with the file is to be mended there.
fn unusable(error: NamesError) -> anyhow::Error {
    Unusable(error.to_string()).into()
}

fn of_edit(error: EditError) -> anyhow::Error {
    match error {
        EditError::Names(error @ (NamesError::Line { .. } | NamesError::File { .. })) => unusable(error),
        error => error.into(),
    }
}
