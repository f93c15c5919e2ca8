//! Whole lines or none: what a failed write leaves of a line is taken back, or closed off.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    time::Duration,
};

/// A place that takes bytes, and perhaps less of them than it is given.
pub(super) trait Output: Send {
    /// Writes some bytes and says how many.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Its length in bytes if it is a regular file: only that can be taken back.
    fn length(&self) -> Option<u64>;
    /// Takes back what lies after the first `length` bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

impl Output for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut &*self, bytes)
    }

    fn length(&self) -> Option<u64> {
        self.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        // A file that is not appended to would go on where it was, after a hole.
        self.seek(SeekFrom::Start(length))?;
        self.flush()
    }
}

/// Writes lines.
pub(super) struct Lines<O> {
    output: O,
    /// The last line has no end, since it could not be taken back.
    broken: bool,
}

/// A pipe that its other user made non-blocking is full: how long until it is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

impl<O: Output> Lines<O> {
    /// `broken`: the last line that is there has no end.
    pub(super) fn new(output: O, broken: bool) -> Self {
        Self { output, broken }
    }

    pub(super) fn output(&self) -> &O {
        &self.output
    }

    /// Writes a line, which ends with the end of a line; it may wait.
    ///
    /// # Errors
    /// If not all of it could be written. Then none of it is there, or the next line closes it off.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        let closing = if self.broken { "\n" } else { "" };
        let bytes = [closing.as_bytes(), line.as_bytes()].concat();
        let before = self.output.length();
        let (written, outcome) = self.write_all(&bytes);
        match bytes[..written].last() {
            _ if outcome.is_ok() => self.broken = false,
            Some(last) if !self.take_back(before, written) => {
                self.broken = *last != b'\n';
                // Only its end is missing, and the next line begins with that.
                if self.broken && written + 1 == bytes.len() {
                    return Ok(());
                }
            }
            _ => {}
        }
        outcome
    }

    fn write_all(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < bytes.len() {
            match self.output.write(&bytes[written..]) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(BUSY_PAUSE);
                }
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// Whether it is gone. What somebody else has written meanwhile is not touched.
    fn take_back(&mut self, before: Option<u64>, written: usize) -> bool {
        let Some(before) = before else { return false };
        let nobody_else = self.output.length() == Some(before + written as u64);
        nobody_else && self.output.truncate(before).is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Takes a number of bytes, and then no more until it is given room.
    struct Disk {
        content: Vec<u8>,
        room: usize,
        is_file: bool,
    }

    impl Output for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.content.extend(&bytes[..count]);
            self.room -= count;
            Ok(count)
        }

        fn length(&self) -> Option<u64> {
            self.is_file.then_some(self.content.len() as u64)
        }

        fn truncate(&mut self, length: u64) -> io::Result<()> {
            self.content.truncate(length as usize);
            Ok(())
        }
    }

    const LINES: [&str; 3] = ["{\"a\":1}\n", "{\"b\":22}\n", "{\"c\":333}\n"];

    /// Writes three lines to what is full after some bytes, and is given room after the second line.
    fn written(room: usize, is_file: bool) -> (Vec<bool>, String) {
        let mut lines = Lines::new(Disk { content: Vec::new(), room, is_file }, false);
        let mut outcomes: Vec<bool> = LINES[..2].iter().map(|line| lines.write(line).is_ok()).collect();
        lines.output.room = 1000;
        outcomes.push(lines.write(LINES[2]).is_ok());
        (outcomes, String::from_utf8(lines.output.content).unwrap())
    }

    #[test]
    fn a_file_that_is_full_at_any_byte_holds_exactly_the_lines_that_were_taken() {
        for room in 0..=20 {
            let (outcomes, content) = written(room, true);
            let taken = LINES.iter().zip(outcomes).filter(|(_, taken)| *taken);
            assert_eq!(content, taken.map(|(line, _)| *line).collect::<String>(), "{room} bytes");
        }
    }

    #[test]
    fn what_cannot_be_taken_back_is_closed_off_and_the_next_line_is_whole() {
        for room in 0..=20 {
            let (outcomes, content) = written(room, false);
            assert!(content.ends_with(LINES[2]), "{room} bytes: {content}");
            for (line, taken) in LINES.iter().zip(outcomes) {
                let whole = content.lines().any(|found| found == line.trim_end());
                assert_eq!(whole, taken, "{room} bytes: {content}");
            }
        }
    }

    #[test]
    fn a_real_file_is_cut_only_if_nobody_else_wrote_to_it() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let file = File::options().append(true).open(&path).unwrap();
        let mut lines = Lines::new(file, false);
        lines.write("mine\n").unwrap();
        let before = lines.output.length();
        assert!(lines.write_all(b"half").1.is_ok());
        assert!(lines.take_back(before, 4));
        assert!(lines.write_all(b"half").1.is_ok());
        io::Write::write_all(&mut File::options().append(true).open(&path).unwrap(), b"theirs\n")
            .unwrap();
        assert!(!lines.take_back(before, 4));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine\nhalftheirs\n");
    }
}
