//! Keys that settings files of other libp2p programs have: those of a table `[network]`, and `external_addresses`.

use std::path::Path;

use toml::{Table, Value};

use super::SettingsError;

/// The table. It may hold the settings of `punchline network` as well.
const TABLE: &str = "network";

/// Keys of that table, and what each is called at the top of our files, where all nodes read it.
const OURS: [(&str, &str); 5] = [
    ("enable_upnp", "enable_upnp"),
    ("enable_hole_punching", "enable_hole_punching"),
    ("enable_autorelay", "enable_autorelay"),
    ("stun_servers", "stun_server"),
    ("relay_mode", "relay_mode"),
];

/// Relays always look whether a node is reached where it says.
const AUTONAT: &str = "enable_autonat";

/// What nodes, bootstrap nodes and monitors call `external`.
const EXTERNAL: (&str, &str) = ("external_addresses", "external");

/// Renames these keys, moves those of `[network]` to the top, and returns a warning for each that changes nothing.
///
/// # Errors
/// If `enable_autonat` is neither `true` nor `false`.
pub(super) fn translate(file: &mut Table, path: &Path) -> Result<Vec<String>, SettingsError> {
    let mut warnings = Vec::new();
    // `network` is also what servers and clients call their Kaspa network.
    if file.get(TABLE).is_some_and(Value::is_table)
        && let Some(Value::Table(mut theirs)) = file.remove(TABLE)
    {
        warnings.extend(autonat(&mut theirs, path)?);
        for (key, _) in OURS {
            let Some(value) = theirs.remove(key) else { continue };
            match has(file, key) {
                true => warnings.push(format!(
                    "{}: `{key}` of `[{TABLE}]` changes nothing: `{key}` stands at the top of the file",
                    path.display()
                )),
                false => drop(file.insert(key.to_owned(), value)),
            }
        }
        if !theirs.is_empty() {
            file.insert(TABLE.to_owned(), Value::Table(theirs));
        }
    }
    warnings.extend(autonat(file, path)?);
    rename(file);
    for value in file.iter_mut().filter_map(|(_, value)| value.as_table_mut()) {
        rename(value);
    }
    Ok(warnings)
}

fn has(table: &Table, key: &str) -> bool {
    table.contains_key(key) || table.contains_key(&key.replace('_', "-"))
}

/// Unless ours stands beside it: then clap says that theirs is unknown.
fn rename(table: &mut Table) {
    for (theirs, ours) in OURS.into_iter().chain([EXTERNAL]).filter(|(theirs, ours)| theirs != ours) {
        if !has(table, ours)
            && let Some(value) = table.remove(theirs)
        {
            table.insert(ours.to_owned(), value);
        }
    }
}

fn autonat(table: &mut Table, path: &Path) -> Result<Option<String>, SettingsError> {
    match table.remove(AUTONAT) {
        None | Some(Value::Boolean(true)) => Ok(None),
        Some(Value::Boolean(false)) => Ok(Some(format!(
            "{}: `{AUTONAT} = false` changes nothing: relays look whether a node is reached where it says, and nothing else \
             is told to others as reached",
            path.display()
        ))),
        Some(_) => Err(SettingsError::Kind { path: path.to_owned(), key: AUTONAT.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn translated(text: &str) -> (Table, Vec<String>) {
        let mut table: Table = text.parse().unwrap();
        let warnings = translate(&mut table, Path::new("s.toml")).unwrap();
        (table, warnings)
    }

    #[test]
    fn the_keys_of_their_network_table_are_ours_at_the_top() {
        let theirs = "[network]\nenable_autonat = true\nenable_upnp = true\nenable_hole_punching = true\n\
                      stun_servers = [\"stun:stun.example.org:3478\"]\nenable_autorelay = false\nrelay_mode = \"fallback\"";
        let ours = "enable_upnp = true\nenable_hole_punching = true\nstun_server = [\"stun:stun.example.org:3478\"]\n\
                    enable_autorelay = false\nrelay_mode = \"fallback\"";
        let (table, warnings) = translated(theirs);
        assert_eq!(table, ours.parse().unwrap());
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn what_changes_nothing_is_said_and_other_settings_of_that_name_stay() {
        let (table, warnings) =
            translated("relay_mode = \"off\"\n[network]\nrelay_mode = \"fallback\"\njson = true");
        assert_eq!(table, "relay_mode = \"off\"\n[network]\njson = true".parse().unwrap());
        assert!(warnings.len() == 1 && warnings[0].contains("stands at the top"), "{warnings:?}");
        let (table, warnings) = translated("[network]\nenable_autonat = false");
        assert!(table.is_empty() && warnings[0].contains("changes nothing"), "{table} {warnings:?}");
        let mut odd: Table = "enable_autonat = \"perhaps\"".parse().unwrap();
        assert!(translate(&mut odd, Path::new("s.toml")).is_err());
        assert_eq!(translated("network = \"mainnet\"").0, "network = \"mainnet\"".parse().unwrap());
    }

    #[test]
    fn external_addresses_are_those_outside() {
        let list = "[\"/ip4/203.0.113.1/tcp/51820\"]";
        let (table, _) =
            translated(&format!("external_addresses = {list}\n[monitor]\nexternal_addresses = {list}"));
        assert_eq!(table, format!("external = {list}\n[monitor]\nexternal = {list}").parse().unwrap());
    }
}
