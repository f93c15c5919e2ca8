//! Files of ranges: `allow` or `deny` and a range a line, or the name of several; `#` begins a comment. `name` gives ranges
//! a name.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use punchline_bridge::addr::{Ranges, UnclearRange};

use super::file::{self, FileFault};
use crate::cli;

/// Most ranges in a file: those of all countries but one have fewer.
pub const NETS_MAX: usize = 262_144;

/// Largest file of ranges in bytes: as many, with a word about some.
pub const NET_FILE_BYTES_MAX: u64 = 16 << 20;

/// Why ranges cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetsError {
    /// It cannot be read.
    #[error("the file of ranges {}: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: FileFault,
    },
    /// A line is not what it should be.
    #[error("{}, line {line}: `{text}` is no range and no name of ranges; write `allow 10.0.0.0/8` or `deny 2001:db8::/32`, one a line, or before it `name example 2001:db8::/32` and then `deny example`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line; the first is 1.
        line: usize,
        /// What it says, shortened.
        text: String,
    },
    /// A range, of the file or of the flags, would match nothing.
    #[error(transparent)]
    Unclear(#[from] UnclearRange),
    /// It has too many ranges.
    #[error("the file of ranges {} has more than {NETS_MAX}; join those that are beside each other", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
    },
}

/// What the settings say, the file included.
///
/// # Errors
/// If the file cannot be used, or a range would match nothing.
pub fn ranges(settings: &cli::Nets) -> Result<Ranges, NetsError> {
    let (mut allow, mut deny) = (cli::all(&settings.allow_net), cli::all(&settings.deny_net));
    if let Some(path) = &settings.net_file {
        let text = file::text(path, NET_FILE_BYTES_MAX)
            .map_err(|fault| NetsError::File { path: path.clone(), fault })?;
        parse(&text, path, &mut allow, &mut deny)?;
    }
    Ok(Ranges::new(allow, deny)?)
}

fn parse(
    text: &str,
    path: &Path,
    allow: &mut Vec<IpNet>,
    deny: &mut Vec<IpNet>,
) -> Result<(), NetsError> {
    let mut named: BTreeMap<&str, Vec<IpNet>> = BTreeMap::new();
    let mut count = 0_usize;
    for (line, entry) in file::entries(text) {
        let wrong = || NetsError::Line { path: path.to_owned(), line, text: file::shown(entry) };
        let (word, rest) = entry.split_once(char::is_whitespace).ok_or_else(wrong)?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (word, words.as_slice()) {
            ("name", [name, ranges @ ..]) if is_name(name) && !ranges.is_empty() => {
                let ranges =
                    ranges.iter().map(|net| net.parse::<IpNet>()).collect::<Result<Vec<_>, _>>();
                let ranges = ranges.map_err(|_| wrong())?;
                count += ranges.len();
                named.entry(name).or_default().extend(ranges);
            }
            ("allow" | "deny", [what]) => {
                let nets = match named.get(what) {
                    Some(nets) => nets.clone(),
                    None => vec![what.parse().map_err(|_| wrong())?],
                };
                count += nets.len();
                if word == "allow" { &mut *allow } else { &mut *deny }.extend(nets);
            }
            _ => return Err(wrong()),
        }
        if count > NETS_MAX {
            return Err(NetsError::TooMany { path: path.to_owned() });
        }
    }
    Ok(())
}

/// Whether ranges may be called so: never what could be a range.
fn is_name(text: &str) -> bool {
    let begins = text.starts_with(|letter: char| letter.is_ascii_alphabetic());
    begins && !text.contains([':', '/', '.'])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn nets(all: &[&str]) -> Vec<IpNet> {
        all.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn a_file_adds_to_what_the_flags_say() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# ours\nallow 10.0.0.0/8 # office\n\n\tdeny\t 10.9.0.0/16\r\n")
            .unwrap();
        let settings = cli::Nets {
            allow_net: vec!["192.0.2.0/24,2001:db8::/32".parse().unwrap()],
            deny_net: Vec::new(),
            net_file: Some(file.path().to_owned()),
        };
        let allow = nets(&["192.0.2.0/24", "2001:db8::/32", "10.0.0.0/8"]);
        assert_eq!(ranges(&settings).unwrap(), Ranges::new(allow, nets(&["10.9.0.0/16"])).unwrap());
        assert_eq!(ranges(&cli::Nets::default()).unwrap(), Ranges::default());
    }

    #[test]
    fn ranges_that_have_a_name_are_denied_and_allowed_by_it() {
        let text = "name example 192.0.2.0/24 2001:db8::/32\nname example 198.51.100.0/24 # grew\n\
                    name office 10.0.0.0/8\ndeny example\nallow office\ndeny 10.9.0.0/16\n";
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        parse(text, Path::new("nets"), &mut allow, &mut deny).unwrap();
        assert_eq!(allow, nets(&["10.0.0.0/8"]));
        assert_eq!(deny, nets(&["192.0.2.0/24", "2001:db8::/32", "198.51.100.0/24", "10.9.0.0/16"]));
    }

    #[test]
    fn names_do_not_get_around_the_most_of_ranges() {
        let some = ["10.0.0.0/8"; 1000].join(" ");
        let text = format!("name many {some}\n{}", "deny many\n".repeat(NETS_MAX / 1000 + 1));
        let error = parse(&text, Path::new("nets"), &mut Vec::new(), &mut Vec::new()).unwrap_err();
        assert!(matches!(error, NetsError::TooMany { .. }), "{error}");
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number() {
        for (text, line) in [
            ("deny example", 1),
            ("name example", 1),
            ("name 10.0.0.0/8 10.0.0.0/8", 1),
            ("name example 10.0.0.0/8\nname other example", 2),
            ("deny 10.0.0.0/8 10.1.0.0/16", 1),
            ("allow 10.0.0.0/8\n10.9.0.0/16", 2),
            ("permit 10.0.0.0/8", 1),
            ("\n\ndeny 10.0.0.0/33", 3),
            ("deny", 1),
        ] {
            let error = parse(text, Path::new("nets"), &mut Vec::new(), &mut Vec::new()).unwrap_err();
            assert!(error.to_string().starts_with(&format!("nets, line {line}: `")), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_before_what_is_wrong_with_it() {
        let folder = tempfile::tempdir().unwrap();
        for (path, wrong) in [
            (folder.path().to_owned(), "it is not a file"),
            (folder.path().join("missing"), "it cannot be read: "),
        ] {
            let settings = cli::Nets { net_file: Some(path.clone()), ..cli::Nets::default() };
            let error = ranges(&settings).unwrap_err().to_string();
            let expected = format!("the file of ranges {}: {wrong}", path.display());
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_range_that_would_match_nothing_is_a_wrong_setting_wherever_it_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "deny 64:ff9b:1::/48").unwrap();
        let in_file = cli::Nets { net_file: Some(file.path().to_owned()), ..cli::Nets::default() };
        let allow_net = vec!["64:ff9b::/64".parse().unwrap()];
        for settings in [in_file, cli::Nets { allow_net, ..cli::Nets::default() }] {
            let error = ranges(&settings).unwrap_err();
            assert!(error.to_string().contains("name the range of IPv4 addresses"), "{error}");
        }
    }

    #[test]
    fn there_is_a_most_of_ranges_and_of_bytes() {
        let text = "deny 10.0.0.0/8\n".repeat(NETS_MAX);
        let parse = |text: &str| parse(text, Path::new("nets"), &mut Vec::new(), &mut Vec::new());
        assert!(parse(&text).is_ok());
        assert!(matches!(parse(&(text + "allow ::/0")), Err(NetsError::TooMany { .. })));
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(NET_FILE_BYTES_MAX + 1).unwrap();
        let settings = cli::Nets { net_file: Some(file.path().to_owned()), ..cli::Nets::default() };
        let error = ranges(&settings).unwrap_err();
        assert!(matches!(error, NetsError::File { fault: FileFault::Oversized { .. }, .. }), "{error}");
    }
}
