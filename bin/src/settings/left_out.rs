//! What this build has not: flags and commands of features that it was built without are told as that, not as unknown.

use clap::error::{ContextKind, ContextValue, ErrorKind};

// `--contact` is of several of them, and so of none.

/// A feature, whether it is here, and the flags and commands that are its.
struct Part {
    feature: &'static str,
    built_in: bool,
    /// Without dashes before them.
    flags: &'static [&'static str],
    commands: &'static [&'static str],
}

const PARTS: [Part; 7] = [
    Part { feature: "dns", built_in: cfg!(feature = "dns"), flags: &["dns"], commands: &[] },
    Part {
        feature: "kad",
        built_in: cfg!(feature = "kad"),
        flags: &[
            "bootstrap",
            "dht",
            "dht-listen",
            "dht-external",
            "dht-network",
            "namespace",
            "namespace-secret",
        ],
        commands: &["bootstrap", "discovery"],
    },
    Part {
        feature: "mainline",
        built_in: cfg!(feature = "mainline"),
        flags: &[
            "mainline",
            "mainline-bootstrap",
            "mainline-public",
            "mainline-listen",
            "mainline-bucket",
            "mainline-parallel",
            "mainline-answer-within",
            "mainline-refresh",
        ],
        commands: &["dht"],
    },
    Part { feature: "mdns", built_in: cfg!(feature = "mdns"), flags: &["mdns"], commands: &[] },
    Part {
        feature: "peer-cache",
        built_in: cfg!(feature = "peer-cache"),
        flags: &["peer-cache"],
        commands: &[],
    },
    Part { feature: "pkarr", built_in: cfg!(feature = "pkarr"), flags: &["pkarr"], commands: &[] },
    Part {
        feature: "rendezvous",
        built_in: cfg!(feature = "rendezvous"),
        flags: &["rendezvous"],
        commands: &[],
    },
];

/// A flag, key or variable, or a command, that another build has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} is not in this build, which was made without the feature `{feature}`: leave it out, or take a build with \
     `--features {feature}`"
)]
pub struct LeftOut {
    /// As it was written.
    pub what: String,
    /// Which feature it is of.
    pub feature: &'static str,
}

/// Whether a flag is left out; as flag (`--mdns`), key (`peer_cache`) or variable (`PUNCHLINE_MDNS`).
pub(super) fn flag(what: &str) -> Option<LeftOut> {
    let name = what.strip_prefix(super::PREFIX).unwrap_or(what);
    let name = name.trim_start_matches('-').to_ascii_lowercase().replace('_', "-");
    let is_of = |part: &&Part| !part.built_in && part.flags.contains(&name.as_str());
    let part = PARTS.iter().find(is_of)?;
    Some(LeftOut { what: format!("`{what}`"), feature: part.feature })
}

/// What clap does not know, if it is that.
pub(super) fn of(error: &clap::Error) -> Option<LeftOut> {
    let said = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => flag(said(ContextKind::InvalidArg)?.split('=').next()?),
        ErrorKind::InvalidSubcommand => {
            let name = said(ContextKind::InvalidSubcommand)?;
            let is_of = |part: &&Part| !part.built_in && part.commands.contains(&name);
            let part = PARTS.iter().find(is_of)?;
            Some(LeftOut { what: format!("the command `{name}`"), feature: part.feature })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn what_a_build_has_is_a_flag_or_command_and_what_it_has_not_is_told_as_left_out() {
        let root = Cli::command();
        let has = |flag: &str| {
            let all = root.get_subcommands();
            all.flat_map(|command| command.get_arguments()).any(|known| known.get_long() == Some(flag))
        };
        for part in &PARTS {
            for name in part.flags {
                assert_eq!(has(name), part.built_in, "--{name} and the feature {}", part.feature);
                assert_eq!(flag(&format!("--{name}")).is_some(), !part.built_in, "--{name}");
                let variable = format!("PUNCHLINE_{}", name.replace('-', "_").to_uppercase());
                assert_eq!(flag(&variable).is_some(), !part.built_in, "{variable}");
            }
            for name in part.commands {
                assert_eq!(root.find_subcommand(name).is_some(), part.built_in, "{name}");
            }
        }
        assert_eq!(flag("--nonsense"), None);
    }

    #[test]
    fn what_clap_does_not_know_is_told_with_its_feature_if_it_has_one() {
        for (arguments, part) in [
            (vec!["punchline", "expose", "--mdns=off"], &PARTS[3]),
            (vec!["punchline", "bootstrap"], &PARTS[1]),
            (vec!["punchline", "forward", "--dns", "example.org"], &PARTS[0]),
        ] {
            let result = Cli::command().try_get_matches_from(&arguments);
            let left_out = result.err().and_then(|error| of(&error));
            assert_eq!(left_out.is_some(), !part.built_in, "{arguments:?}: {left_out:?}");
            if let Some(left_out) = left_out {
                assert_eq!(left_out.feature, part.feature);
            }
        }
        let error = Cli::command().try_get_matches_from(["punchline", "expose", "--nonsense"]);
        assert_eq!(of(&error.unwrap_err()), None);
    }
}
