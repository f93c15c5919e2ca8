//! Lines on their way out: whoever has one never waits for whoever reads it.
//!
//! A queue and a thread lie between the two. While nobody reads, or the disk is full, lines wait in the
//! queue; those that no longer fit are dropped whole and counted, and a line in their place says how many.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A place that takes whole lines.
pub(super) trait Destination: Send {
    /// Writes a line, which ends with the end of a line; it may wait.
    ///
    /// # Errors
    /// If not all of it could be written; then none of it counts as written.
    fn write(&mut self, line: &str) -> io::Result<()>;

    /// Opens a file again: it may have been moved away.
    ///
    /// # Errors
    /// If it cannot be opened; the one before stays in use.
    fn reopen(&mut self) -> io::Result<()>;
}

/// Bytes of lines that wait to be written: some ten thousand events.
pub(super) const QUEUE_BYTES_MAX: usize = 4 << 20;

/// After a failed write, until the same line is tried again: a full disk is not asked all the time, and
/// one that wavers is not reported more often.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What an outlet says of itself.
#[derive(Clone)]
pub(super) struct Voice {
    /// What it carries and where to, as `events to /var/log/punchline`. Without it nothing is logged.
    pub(super) subject: Option<String>,
    /// The line that stands for so many lost ones.
    pub(super) gap: fn(u64) -> String,
}

/// Takes lines. Cheap to clone.
#[derive(Clone)]
pub(super) struct Outlet(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Something was put in or taken out, or is to be done.
    changed: Condvar,
    voice: Voice,
    bytes_max: usize,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The thread is at work on an entry that it took out.
    busy: bool,
    /// It was said that lines are being lost; how many were since.
    losing: Option<u64>,
    reopen: bool,
    /// What cannot be written at once will not be.
    closing: bool,
    /// The thread has ended: no line is written any more.
    ended: bool,
}

enum Entry {
    Line(String),
    /// Lines that were dropped here.
    Gap(u64),
}

enum Task {
    Write(Entry),
    Reopen,
}

/// What ended the pause after a failed write.
enum Pause {
    /// Its time.
    Over,
    /// The file is to be opened anew.
    Reopen,
    /// The process is about to end: there is no next try.
    Closing,
}

impl Outlet {
    /// Starts a thread that writes to the place.
    ///
    /// # Errors
    /// If the system does not let us start a thread.
    pub(super) fn start(place: impl Destination + 'static, voice: Voice) -> io::Result<Self> {
        Self::with_room(QUEUE_BYTES_MAX, place, voice)
    }

    fn with_room(bytes_max: usize, place: impl Destination + 'static, voice: Voice) -> io::Result<Self> {
        let (queue, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { queue, changed, voice, bytes_max });
        let thread = std::thread::Builder::new().name("lines".to_owned());
        let served = Arc::clone(&shared);
        thread.spawn(move || served.serve(place))?;
        Ok(Self(shared))
    }

    /// Takes a line, which ends with the end of a line, and never waits.
    pub(super) fn send(&self, line: String) {
        let mut queue = self.0.lock();
        if queue.ended {
            return;
        }
        let fits = queue.bytes + line.len() <= self.0.bytes_max;
        let said = queue.losing.is_some();
        if fits {
            queue.bytes += line.len();
            queue.entries.push_back(Entry::Line(line));
        } else {
            queue.drop_one();
        }
        drop(queue);
        self.0.changed.notify_all();
        if !fits && !said {
            self.0.say(|subject| tracing::warn!("losing {subject}: nobody reads them fast enough"));
        }
    }

    /// Opens a file anew before the next line is written.
    pub(super) fn reopen(&self) {
        self.0.lock().reopen = true;
        self.0.changed.notify_all();
    }

    /// Waits until all is written, or the deadline is over; then it says what is lost.
    pub(super) fn finish(&self, deadline: Duration) {
        let end = Instant::now() + deadline;
        let mut queue = self.0.lock();
        queue.closing = true;
        self.0.changed.notify_all();
        while !queue.is_idle() && !queue.ended {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.0.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let lost = queue.left();
        drop(queue);
        if lost > 0 {
            self.0.say(|subject| tracing::warn!(lost, "the last {subject} were lost"));
        }
    }
}

impl Queue {
    fn drop_one(&mut self) {
        match self.entries.back_mut() {
            Some(Entry::Gap(count)) => *count += 1,
            _ => self.entries.push_back(Entry::Gap(1)),
        }
        *self.losing.get_or_insert(0) += 1;
    }

    fn is_idle(&self) -> bool {
        self.entries.is_empty() && !self.busy
    }

    /// Lines that are not written and not told of.
    fn left(&self) -> u64 {
        let entries = self.entries.iter().map(|entry| match entry {
            Entry::Line(_) => 1,
            Entry::Gap(count) => *count,
        });
        entries.sum::<u64>() + u64::from(self.busy)
    }

    fn has_gap(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Gap(_)))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, say: impl FnOnce(&str)) {
        if let Some(subject) = &self.voice.subject {
            say(subject);
        }
    }

    /// The thread's work, for as long as the process lives.
    fn serve(&self, mut place: impl Destination) {
        loop {
            match self.next() {
                Task::Reopen => self.open_again(&mut place),
                Task::Write(entry) => {
                    let line = match entry {
                        Entry::Line(line) => line,
                        Entry::Gap(count) => (self.voice.gap)(count),
                    };
                    if !self.write(&mut place, &line) {
                        return;
                    }
                }
            }
        }
    }

    fn next(&self) -> Task {
        let mut queue = self.lock();
        loop {
            if queue.reopen {
                queue.reopen = false;
                return Task::Reopen;
            }
            if let Some(entry) = queue.entries.pop_front() {
                if let Entry::Line(line) = &entry {
                    queue.bytes -= line.len();
                }
                queue.busy = true;
                return Task::Write(entry);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open_again(&self, place: &mut impl Destination) {
        if let Err(error) = place.reopen() {
            self.say(|subject| tracing::warn!(%error, "cannot open the file again for {subject}"));
        }
    }

    /// Writes a line, however long it takes. False if no line will be written any more.
    fn write(&self, place: &mut impl Destination, line: &str) -> bool {
        loop {
            match place.write(line) {
                Ok(()) => {
                    self.written();
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.give_up();
                    return false;
                }
                Err(error) => match self.pause(&error) {
                    Pause::Over => {}
                    Pause::Reopen => self.open_again(place),
                    Pause::Closing => return false,
                },
            }
        }
    }

    fn written(&self) {
        let mut queue = self.lock();
        queue.busy = false;
        let lost = if queue.has_gap() { None } else { queue.losing.take() };
        drop(queue);
        self.changed.notify_all();
        if let Some(lost) = lost {
            self.say(|subject| tracing::warn!(lost, "writing {subject} again"));
        }
    }

    /// Waits before the next try.
    fn pause(&self, error: &io::Error) -> Pause {
        let mut queue = self.lock();
        if queue.losing.is_none() {
            queue.losing = Some(0);
            drop(queue);
            let room = self.bytes_max >> 20;
            self.say(|subject| {
                tracing::warn!(%error, "cannot write {subject}; {room} MiB of them are kept until it can, more are lost");
            });
            queue = self.lock();
        }
        let end = Instant::now() + RETRY_PAUSE;
        loop {
            if queue.closing {
                queue.ended = true;
                self.changed.notify_all();
                return Pause::Closing;
            }
            if queue.reopen {
                queue.reopen = false;
                return Pause::Reopen;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Pause::Over;
            }
            queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Nobody reads any more, and nobody will.
    fn give_up(&self) {
        let mut queue = self.lock();
        queue.ended = true;
        queue.busy = false;
        queue.entries.clear();
        drop(queue);
        self.changed.notify_all();
        self.say(|subject| tracing::warn!("whoever read the {subject} has gone; no more are written"));
    }
}

#[cfg(test)]
mod tests;
