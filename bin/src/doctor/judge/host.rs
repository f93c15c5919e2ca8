//! The checks of this host's files and limits.

use super::check;
use crate::doctor::{
    diagnosis::{Check, Verdict},
    findings::{Findings, Listens, Taken, Unwritable},
};

pub(super) fn listening(found: &Findings) -> Vec<Check> {
    const CHECK: &str = "listen";
    if found.listening.is_empty() {
        return vec![check(CHECK, Verdict::Ok, "no port is named, so any that is free will do")];
    }
    let each = found.listening.iter().map(|listening| {
        let says = match &listening.can {
            Ok(Listens::Free) => check(CHECK, Verdict::Ok, "it can be listened on"),
            Ok(Listens::Already) => check(CHECK, Verdict::Ok, "the node that runs here listens there"),
            Err(Taken::Port { found }) => check(CHECK, Verdict::Bad, found.clone())
                .advise("stop it, or choose another port with --listen"),
            // It says what to do.
            Err(Taken::Other { cause }) => check(CHECK, Verdict::Bad, cause.clone()),
        };
        says.of(listening.address.to_string())
    });
    each.collect()
}

pub(super) fn identities(found: &Findings) -> Vec<Check> {
    if found.identities.is_empty() {
        return vec![check("identity", Verdict::Ok, "there is none yet; the first start makes it")];
    }
    let each = found.identities.iter().map(|identity| {
        let path = identity.path.display().to_string();
        match &identity.found {
            Ok(true) => check("identity", Verdict::Ok, "a key, which its owner alone can read").of(path),
            Ok(false) => {
                check("identity", Verdict::Ok, "it is not there yet; the first start makes it").of(path)
            }
            // It names the file and the remedy.
            Err(cause) => check("identity", Verdict::Bad, cause.clone()).of(path),
        }
    });
    each.collect()
}

pub(super) fn state(found: &Findings) -> Check {
    const CHECK: &str = "state_directory";
    let Some(state) = &found.state else {
        return check(CHECK, Verdict::Warning, "this user has no home directory")
            .advise("name the file of the identity with --identity");
    };
    let path = state.directory.display().to_string();
    match &state.writable {
        Ok(()) => check(CHECK, Verdict::Ok, "it can be written to"),
        Err(Unwritable::Full) => check(CHECK, Verdict::Bad, "the disk is full, or this user's quota is used up")
            .advise("make room: identities, tickets and events are kept there"),
        Err(Unwritable::Refused { cause }) if state.has_identity => {
            check(CHECK, Verdict::Warning, format!("it cannot be written to ({cause})"))
                .advise("the identity there can be used; tickets and `punchline status` need a directory of this user's")
        }
        Err(Unwritable::Refused { cause }) => {
            check(CHECK, Verdict::Bad, format!("it cannot be written to ({cause})"))
                .advise("give it to this user, or name a file elsewhere with --identity")
        }
    }
    .of(path)
}

/// A socket for each connection, and one for each local end of a stream: what a household needs.
const OPEN_FILES_WANTED: u64 = 1024;

/// Listeners, the runtime, and a handful of peers.
const OPEN_FILES_LEAST: u64 = 128;

pub(super) fn open_files(found: &Findings) -> Check {
    let advice = "raise it with `ulimit -n 4096`, or LimitNOFILE= in a systemd unit";
    match found.open_files {
        None => check("open_files", Verdict::Ok, "no limit"),
        Some(limit) if limit < OPEN_FILES_LEAST => {
            check("open_files", Verdict::Bad, format!("{limit} at most, which is not enough to run"))
                .advise(advice)
        }
        Some(limit) if limit < OPEN_FILES_WANTED => check(
            "open_files",
            Verdict::Warning,
            format!("{limit} at most, each connection and each stream takes one"),
        )
        .advise(advice),
        Some(limit) => check("open_files", Verdict::Ok, format!("{limit} at most")),
    }
}
