//! `enable_autorelay`, a key that settings files of other libp2p programs have.

use std::path::Path;

use toml::{Table, Value};

use super::SettingsError;

const KEY: &str = "enable_autorelay";
const OURS: &str = "relay_mode";

/// Takes the key out of a file's top level and of its tables. `false` is `relay_mode = "coordination"` there, unless that
/// is said beside it; `true` is what holds anyway. Returns a warning for each that is `false`.
///
/// # Errors
/// If it is neither `true` nor `false`.
pub(super) fn translate(file: &mut Table, path: &Path) -> Result<Vec<String>, SettingsError> {
    let mut warnings: Vec<String> = take(file, "", path)?.into_iter().collect();
    for (name, value) in file.iter_mut() {
        if let Value::Table(own) = value {
            warnings.extend(take(own, &format!(" of `{name}`"), path)?);
        }
    }
    Ok(warnings)
}

fn take(table: &mut Table, of: &str, path: &Path) -> Result<Option<String>, SettingsError> {
    let enabled = match table.remove(KEY) {
        None => return Ok(None),
        Some(Value::Boolean(enabled)) => enabled,
        Some(_) => return Err(SettingsError::Kind { path: path.to_owned(), key: KEY.to_owned() }),
    };
    if enabled {
        return Ok(None);
    }
    let path = path.display();
    if [OURS, "relay-mode"].iter().any(|ours| table.contains_key(*ours)) {
        return Ok(Some(format!("{path}: `{KEY}`{of} changes nothing: `{OURS}` stands beside it")));
    }
    table.insert(OURS.to_owned(), "coordination".into());
    Ok(Some(format!(
        "{path}: `{KEY} = false`{of} is taken for `{OURS} = \"coordination\"`: relays introduce peers and carry none of \
         their streams; say `{OURS} = \"off\"` to use no relay at all"
    )))
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
    fn no_autorelay_means_that_relays_only_introduce_and_is_said() {
        for (text, expected) in [
            ("enable_autorelay = false", "relay_mode = \"coordination\""),
            ("[server]\nenable_autorelay = false", "[server]\nrelay_mode = \"coordination\""),
            ("enable_autorelay = false\nrelay_mode = \"off\"", "relay_mode = \"off\""),
        ] {
            let (table, warnings) = translated(text);
            assert_eq!(table, expected.parse().unwrap(), "{text}");
            assert!(warnings.len() == 1 && warnings[0].contains("relay_mode"), "{warnings:?}");
        }
    }

    #[test]
    fn autorelay_is_what_holds_anyway_and_anything_else_is_refused() {
        assert_eq!(translated("enable_autorelay = true"), (Table::new(), Vec::new()));
        let mut odd: Table = "enable_autorelay = \"perhaps\"".parse().unwrap();
        assert!(translate(&mut odd, Path::new("s.toml")).is_err());
    }
}
