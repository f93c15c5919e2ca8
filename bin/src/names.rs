//! Names of peers: what a person calls them, in a file that people can edit. They are local: no other node learns them.
//!
//! Reading order: a [`PeerRef`] is a peer as it is written, by its id or by a name; [`Names`] says who is meant, and are read
//! from the [`NamesFile`]; `edit` changes the file and keeps the comments in it, and `follow` sees when somebody does.

mod command;
mod edit;
mod follow;

use std::{
    collections::BTreeMap,
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr,
};

use libp2p::PeerId;
use punchline_discovery::pkarr;
use toml::de::DeTable;

use crate::access::file::{self, FileFault};

pub use self::edit::EditError;
pub(crate) use self::{command::run, follow::follow};

/// The file's name, in the folder of the identity.
pub(crate) const FILE_NAME: &str = "peers.toml";

/// Most names.
pub const NAMES_MAX: usize = 10_000;

/// Largest file in bytes: as many, with a comment each.
pub const NAMES_BYTES_MAX: u64 = 2 << 20;

/// Longest name in bytes: shorter than any peer id that a node has.
pub const NAME_BYTES_MAX: usize = 32;

/// Names that are proposed in place of an unknown one, and how like it they are at least, from 0 to 1.
const NEAR: (usize, f64) = (3, 0.7);

/// What a peer is called: letters, digits, `-` and `_`. No id can be read as one: an id may be as short as `17a`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerName(String);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to {NAME_BYTES_MAX} letters (a to z), digits, - and _, and cannot be read as a peer id"
)]
pub struct NoName;

impl PeerName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerName {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_long_enough = (1..=NAME_BYTES_MAX).contains(&text.len());
        match is_long_enough && text.bytes().all(fits) && text.parse::<PeerId>().is_err() {
            true => Ok(Self(text.to_owned())),
            false => Err(NoName),
        }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A peer as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRef {
    /// By its id.
    Id(PeerId),
    /// By the name that it has here.
    Name(PeerName),
    /// Whoever answers for the authority with this id, as that says in the DHT.
    Authority(PeerId),
}

/// What stands before the id of an authority.
const AUTHORITY: &str = "authority:";

impl FromStr for PeerRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(peer) = pkarr::peer_of(text) {
            return peer.map(Self::Id).map_err(|error| error.to_string());
        }
        if let Some(id) = text.strip_prefix(AUTHORITY) {
            return id.parse().map(Self::Authority).map_err(|error| {
                format!("no authority ({error}); say authority:12D3KooW…, as `punchline discovery delegate` prints it")
            });
        }
        let error = match text.parse() {
            Ok(peer) => return Ok(Self::Id(peer)),
            Err(error) => error,
        };
        text.parse().map(Self::Name).map_err(|no_name: NoName| {
            format!(
                "not a peer id ({error}); it looks like 12D3KooW…, and `punchline id --of forward` prints it there; nor a \
                 name: {no_name}"
            )
        })
    }
}

impl fmt::Display for PeerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(peer) => peer.fmt(f),
            Self::Name(name) => name.fmt(f),
            Self::Authority(authority) => write!(f, "{AUTHORITY}{authority}"),
        }
    }
}

/// Why names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// The file cannot be read.
    #[error("the names of peers in {}: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: FileFault,
    },
    /// A line of the file is wrong.
    #[error("{}, line {line}: {wrong}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line; the first is 1.
        line: usize,
        /// What is wrong with it.
        wrong: WrongLine,
    },
    /// It has too many names.
    #[error("{} has more than {NAMES_MAX} names", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
    },
    /// It is found elsewhere.
    #[error(
        "`{peer}` is looked up in the DHT, which only forward, client and `discovery find-peer` do; say an id or a name here"
    )]
    Elsewhere {
        /// What was said.
        peer: PeerRef,
    },
    /// Nobody is called that.
    #[error("`{name}` is not a peer id, nor a name in {}{}; `punchline peers` lists the names, `punchline peers name <ID> {name}` adds one with the id that `punchline id` prints there", path.display(), proposed(near))]
    Unknown {
        /// What was said.
        name: PeerName,
        /// Where names are.
        path: PathBuf,
        /// Names like it, the likest first.
        near: Vec<PeerName>,
    },
}

/// What is wrong with a line of the file.
#[derive(Debug, thiserror::Error)]
pub enum WrongLine {
    /// It is no TOML.
    #[error("{message}; write `alice = \"12D3KooW…\"`, one a line")]
    Malformed {
        /// What the parser said.
        message: String,
    },
    /// The name is none.
    #[error("`{text}` is no name: {NoName}")]
    NoName {
        /// What stands there, shortened.
        text: String,
    },
    /// What it is to mean is no peer id.
    #[error("`{name}` is not a peer id; write `{name} = \"12D3KooW…\"`")]
    NoPeer {
        /// The name.
        name: PeerName,
    },
    /// The peer has another name already.
    #[error(
        "`{name}` is a second name of the peer that is `{first}` in line {first_line}; take one of the two out"
    )]
    SecondName {
        /// The second.
        name: PeerName,
        /// The first.
        first: PeerName,
        /// Where that one is.
        first_line: usize,
    },
}

fn proposed(near: &[PeerName]) -> String {
    match near {
        [] => String::new(),
        near => {
            let near: Vec<&str> = near.iter().map(PeerName::as_str).collect();
            format!("; did you mean {}?", near.join(", "))
        }
    }
}

/// All names that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    path: PathBuf,
    by_name: BTreeMap<PeerName, PeerId>,
    by_peer: BTreeMap<PeerId, PeerName>,
}

impl Names {
    /// What a file says; `path` is for messages.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, NamesError> {
        let mut names = Self { path: path.to_owned(), ..Self::default() };
        let mut lines: BTreeMap<PeerId, usize> = BTreeMap::new();
        for Entry { name, peer, line, .. } in entries(text, path)? {
            if let Some(first) = names.by_peer.get(&peer) {
                let (first, first_line) = (first.clone(), lines.get(&peer).copied().unwrap_or_default());
                let wrong = WrongLine::SecondName { name, first, first_line };
                return Err(NamesError::Line { path: path.to_owned(), line, wrong });
            }
            lines.insert(peer, line);
            names.by_peer.insert(peer, name.clone());
            names.by_name.insert(name, peer);
            if names.by_name.len() > NAMES_MAX {
                return Err(NamesError::TooMany { path: path.to_owned() });
            }
        }
        Ok(names)
    }

    /// What the peer is called, if it has a name.
    pub fn of(&self, peer: PeerId) -> Option<&PeerName> {
        self.by_peer.get(&peer)
    }

    /// What to call the peer to a person: its name, or else its id.
    pub fn shown(&self, peer: PeerId) -> String {
        self.of(peer).map_or_else(|| peer.to_string(), ToString::to_string)
    }

    /// A text for a person, with names in place of the ids of peers that have one; but not in addresses (`/p2p/<id>`), which
    /// are to be copied.
    pub fn in_text(&self, text: &str) -> String {
        if self.by_peer.is_empty() {
            return text.to_owned();
        }
        let mut said = String::with_capacity(text.len());
        for piece in text.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()) {
            let word = piece.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
            let is_address = said.ends_with("/p2p/");
            let name = word.parse().ok().filter(|_| word.len() > NAME_BYTES_MAX && !is_address);
            match name.and_then(|peer| self.of(peer)) {
                Some(name) => said.push_str(name.as_str()),
                None => said.push_str(word),
            }
            said.push_str(piece.get(word.len()..).unwrap_or_default());
        }
        said
    }

    /// All names in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&PeerName, PeerId)> {
        self.by_name.iter().map(|(name, peer)| (name, *peer))
    }

    /// Who is meant.
    ///
    /// # Errors
    /// If nobody is called that.
    pub fn resolve(&self, peer: &PeerRef) -> Result<PeerId, NamesError> {
        match peer {
            PeerRef::Id(peer) => Ok(*peer),
            PeerRef::Authority(_) => Err(NamesError::Elsewhere { peer: peer.clone() }),
            PeerRef::Name(name) => match self.by_name.get(name) {
                Some(peer) => Ok(*peer),
                None => Err(NamesError::Unknown {
                    name: name.clone(),
                    path: self.path.clone(),
                    near: self.near(name),
                }),
            },
        }
    }

    fn near(&self, name: &PeerName) -> Vec<PeerName> {
        let (most, least) = NEAR;
        let lower = name.as_str().to_lowercase();
        let likeness = |other: &PeerName| strsim::jaro_winkler(&lower, &other.0.to_lowercase());
        let near = self.by_name.keys().map(|other| (likeness(other), other));
        let mut near: Vec<_> = near.filter(|(likeness, _)| *likeness >= least).collect();
        near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        near.into_iter().take(most).map(|(_, other)| other.clone()).collect()
    }
}

/// One entry of the file.
struct Entry {
    name: PeerName,
    peer: PeerId,
    /// From 1.
    line: usize,
    /// Its bytes, from the name to the end of the id.
    span: Range<usize>,
}

/// The entries in their order.
fn entries(text: &str, path: &Path) -> Result<Vec<Entry>, NamesError> {
    let table = DeTable::parse(text).map_err(|error| {
        let wrong = WrongLine::Malformed { message: error.message().trim_end().to_owned() };
        let at = error.span().map_or(0, |span| span.start);
        let line = 1 + newlines(text.get(..at).unwrap_or_default());
        NamesError::Line { path: path.to_owned(), line, wrong }
    })?;
    let mut found: Vec<_> = table.get_ref().iter().collect();
    found.sort_by_key(|(key, _)| key.span().start);
    let mut entries = Vec::new();
    // Counted on from one to the next: a file may have thousands.
    let (mut line, mut counted) = (1, 0);
    for (key, value) in found {
        let start = key.span().start;
        line += newlines(&text[counted..start]);
        counted = start;
        let wrong = |wrong| NamesError::Line { path: path.to_owned(), line, wrong };
        let no_name = |_: NoName| wrong(WrongLine::NoName { text: file::shown(key.get_ref()) });
        let name: PeerName = key.get_ref().parse().map_err(no_name)?;
        let id = value.get_ref().as_str().and_then(|id| id.parse::<PeerId>().ok());
        let peer = id.ok_or_else(|| wrong(WrongLine::NoPeer { name: name.clone() }))?;
        entries.push(Entry { name, peer, line, span: start..value.span().end });
    }
    Ok(entries)
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// The file of names. It need not be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamesFile(PathBuf);

impl NamesFile {
    /// The one at this place.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What it says now; nothing if it is not there.
    ///
    /// # Errors
    /// If it cannot be read, or says something wrong.
    pub fn read(&self) -> Result<Names, NamesError> {
        Names::parse(&self.text()?, &self.0)
    }

    /// Likewise of a peer's id, for which the file is not needed.
    ///
    /// # Errors
    /// If nobody is called that, or the file is wrong.
    pub fn resolve(&self, peer: &PeerRef) -> Result<PeerId, NamesError> {
        match peer {
            PeerRef::Id(peer) => Ok(*peer),
            PeerRef::Name(_) | PeerRef::Authority(_) => self.read()?.resolve(peer),
        }
    }

    fn text(&self) -> Result<String, NamesError> {
        match file::text(&self.0, NAMES_BYTES_MAX) {
            Ok(text) => Ok(text),
            Err(FileFault::Io(cause)) if cause.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(fault) => Err(NamesError::File { path: self.0.clone(), fault }),
        }
    }
}

#[cfg(test)]
mod tests;
