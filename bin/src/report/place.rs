//! Where lines end up: standard output, standard error, or a file that may be bounded and moved away.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use super::{lines::Lines, outlet::Destination};

/// Standard output, standard error or a file.
pub(super) enum Place {
    /// One of the process's own two.
    Inherited(Lines<File>),
    /// A file by its name.
    Named(NamedFile),
}

impl Place {
    /// # Errors
    /// If standard output is closed.
    pub(super) fn stdout() -> io::Result<Self> {
        Ok(Self::inherited(io::stdout().as_fd().try_clone_to_owned()?.into()))
    }

    /// # Errors
    /// If standard error is closed.
    pub(super) fn stderr() -> io::Result<Self> {
        Ok(Self::inherited(io::stderr().as_fd().try_clone_to_owned()?.into()))
    }

    fn inherited(file: File) -> Self {
        Self::Inherited(Lines::new(file, false))
    }
}

impl Destination for Place {
    fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Inherited(lines) => lines.write(line),
            Self::Named(file) => file.write(line),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        match self {
            Self::Inherited(_) => Ok(()),
            Self::Named(file) => file.reopen(),
        }
    }
}

/// A file that is appended to.
pub(super) struct NamedFile {
    path: PathBuf,
    /// It is moved to [`predecessor`] before it has more.
    bytes_max: Option<u64>,
    lines: Lines<File>,
}

impl NamedFile {
    /// # Errors
    /// If it cannot be opened or made, or is to be bounded and is no regular file.
    pub(super) fn open(path: &Path, bytes_max: Option<u64>) -> io::Result<Self> {
        let lines = open(path)?;
        if bytes_max.is_some() && !lines.output().metadata()?.is_file() {
            return Err(io::Error::other("only a regular file can be bounded"));
        }
        Ok(Self { path: path.to_owned(), bytes_max, lines })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let length = self.lines.output().metadata().map_or(0, |metadata| metadata.len());
        if let Some(max) = self.bytes_max
            && length > 0
            && length + line.len() as u64 > max
        {
            self.rotate()?;
        }
        self.lines.write(line)
    }

    /// Keeps one predecessor. Another process that writes to the same file may have done so already.
    fn rotate(&mut self) -> io::Result<()> {
        if is_at(self.lines.output(), &self.path) {
            fs::rename(&self.path, predecessor(&self.path))?;
        }
        self.reopen()
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.lines = open(&self.path)?;
        Ok(())
    }
}

/// Where a file goes when it is full: `FILE.1`.
pub(super) fn predecessor(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".1");
    name.into()
}

fn open(path: &Path) -> io::Result<Lines<File>> {
    let file = appending(path).create(true).open(path)?;
    let broken = file.metadata()?.is_file() && ends_within_a_line(path);
    Ok(Lines::new(file, broken))
}

/// Whether a file of this name may be opened, or made; leaves no trace.
///
/// # Errors
/// If it cannot be opened, or its directory does not exist.
pub(super) fn check(path: &Path) -> io::Result<()> {
    match appending(path).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            directory.unwrap_or(Path::new(".")).metadata().map(drop)
        }
        opened => opened.map(drop),
    }
}

/// A named pipe is opened for reading as well: else we would wait for a reader, and could not wait for
/// the next one when it goes.
fn appending(path: &Path) -> fs::OpenOptions {
    let is_pipe = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    let mut options = File::options();
    options.append(true).read(is_pipe);
    options
}

/// Whether a process that was killed left half a line. A file that we may not read is believed whole.
fn ends_within_a_line(path: &Path) -> bool {
    let last = || -> io::Result<u8> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    last().is_ok_and(|last| last != b'\n')
}

/// Whether this file still bears this name.
fn is_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (here, there) = (file.metadata().map(inode), fs::metadata(path).map(inode));
    matches!((here, there), (Ok(here), Ok(there)) if here == there)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_bounded_file_is_moved_away_before_it_is_too_large_and_one_predecessor_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let mut file = NamedFile::open(&path, Some(20)).unwrap();
        for line in ["first...\n", "second..\n", "third...\n", "fourth..\n", "fifth...\n"] {
            file.write(line).unwrap();
            assert!(fs::metadata(&path).unwrap().len() <= 20);
        }
        assert_eq!(text(&path), "fifth...\n");
        assert_eq!(text(&predecessor(&path)), "third...\nfourth..\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_line_longer_than_the_bound_has_a_file_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let mut file = NamedFile::open(&path, Some(5)).unwrap();
        for line in ["longer than five\n", "short\n"] {
            file.write(line).unwrap();
        }
        assert_eq!(
            (text(&predecessor(&path)), text(&path)),
            ("longer than five\n".into(), "short\n".into())
        );
    }

    #[test]
    fn two_processes_share_a_bounded_file_and_lose_no_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let mut both = [(); 2].map(|()| NamedFile::open(&path, Some(12)).unwrap());
        for (turn, line) in ["one..\n", "two..\n", "three\n", "four.\n"].into_iter().enumerate() {
            both[turn % 2].write(line).unwrap();
        }
        assert_eq!(text(&predecessor(&path)), "one..\ntwo..\n");
        assert_eq!(text(&path), "three\nfour.\n");
    }

    #[test]
    fn half_a_line_of_a_killed_process_is_closed_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        fs::write(&path, "{\"whole\":1}\n{\"half").unwrap();
        NamedFile::open(&path, None).unwrap().write("{\"next\":1}\n").unwrap();
        assert_eq!(text(&path), "{\"whole\":1}\n{\"half\n{\"next\":1}\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew_when_asked() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("events"), directory.path().join("moved"));
        let mut file = NamedFile::open(&path, None).unwrap();
        file.write("before\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        file.write("between\n").unwrap();
        file.reopen().unwrap();
        file.write("after\n").unwrap();
        assert_eq!((text(&moved), text(&path)), ("before\nbetween\n".into(), "after\n".into()));
    }

    #[test]
    fn what_is_no_regular_file_cannot_be_bounded() {
        assert!(NamedFile::open(Path::new("/dev/null"), Some(20)).is_err());
        assert!(NamedFile::open(Path::new("/dev/null"), None).is_ok());
    }
}
