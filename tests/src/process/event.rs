//! What a program reported: its events, and the rest of its output for the day it fails.

use std::fmt::{self, Write as _};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;

/// One event, as a program printed it: a JSON object with the key `event`.
#[derive(Clone, Debug, PartialEq)]
pub struct Event(Value);

impl Event {
    /// Reads a line of output; `None` if it is not an event.
    pub fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        value.get("event")?.as_str()?;
        Some(Self(value))
    }

    /// The event's name, such as `stream_moved`.
    pub fn name(&self) -> &str {
        self.text("event").unwrap_or_default()
    }

    /// The text in `field`, if there is one.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field)?.as_str()
    }

    /// The whole number in `field`, if there is one.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.0.get(field)?.as_u64()
    }

    /// When it was said.
    ///
    /// # Errors
    ///
    /// If it does not tell.
    pub fn time(&self) -> Result<Timestamp> {
        let text = self.text("ts").with_context(|| format!("no time in {self}"))?;
        text.parse().with_context(|| format!("the time in {self}"))
    }

    /// Whether `field` holds the text `value`.
    pub fn has(&self, field: &str, value: &str) -> bool {
        self.text(field) == Some(value)
    }

    /// The whole object.
    pub fn fields(&self) -> &Value {
        &self.0
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A place in a program's events: everything seen before it is the past.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Mark(usize);

/// Everything a program printed so far, within limits.
#[derive(Debug, Default)]
pub(super) struct Log {
    events: Vec<Event>,
    stray: Vec<String>,
    stderr: Vec<String>,
    overflowed: bool,
    ended: bool,
}

impl Log {
    pub(super) fn push_stdout(&mut self, line: &str) {
        match Event::parse(line) {
            Some(event) if self.events.len() < EVENTS_MAX => self.events.push(event),
            Some(_) => self.overflowed = true,
            None => push_bounded(&mut self.stray, line),
        }
    }

    pub(super) fn push_stderr(&mut self, line: &str) {
        push_bounded(&mut self.stderr, line);
    }

    /// Standard output was closed: no event will follow.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.events
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.events.len())
    }

    /// The first event after `mark` that is called `name` and matches.
    pub(super) fn find(
        &self,
        mark: Mark,
        name: &str,
        matches: impl Fn(&Event) -> bool,
    ) -> Option<&Event> {
        let after = self.events.iter().skip(mark.0);
        after.into_iter().find(|event| event.name() == name && matches(event))
    }

    /// Everything, for a person who wants to know why a test failed.
    pub(super) fn report(&self) -> String {
        let mut report = String::new();
        for event in &self.events {
            let _ = writeln!(report, "  {event}");
        }
        for (title, lines) in [("other output", &self.stray), ("standard error", &self.stderr)] {
            if !lines.is_empty() {
                let _ = writeln!(report, "  --- {title}, the first and the last lines");
            }
            for line in lines {
                let _ = writeln!(report, "  {line}");
            }
        }
        report
    }
}

/// Keeps the first half of the limit and the newest of the rest: the start tells how a program was
/// set up, the end why it died.
fn push_bounded(lines: &mut Vec<String>, line: &str) {
    if lines.len() >= LINES_MAX {
        lines.remove(LINES_MAX / 2);
    }
    lines.push(line.to_owned());
}

/// Events kept of one program: a test with more than these is one that nobody can read when it
/// fails, and a program with more of them is chattering.
pub const EVENTS_MAX: usize = 20_000;

/// Lines of standard error, and of output that is no event, kept of one program.
pub const LINES_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_without_a_name_is_no_event() {
        assert_eq!(Event::parse(r#"{"peer":"x"}"#), None);
        assert_eq!(Event::parse("event"), None);
        let event = Event::parse(r#"{"event":"load_done","bytes":7}"#);
        assert_eq!(event.and_then(|event| event.number("bytes")), Some(7));
    }

    #[test]
    fn events_beyond_the_limit_are_dropped_and_noticed() {
        let mut log = Log::default();
        for _ in 0..=EVENTS_MAX {
            log.push_stdout(r#"{"event":"stopped"}"#);
        }
        assert_eq!(log.events().len(), EVENTS_MAX);
        assert!(log.has_overflowed());
    }

    #[test]
    fn lines_beyond_the_limit_push_out_the_middle() {
        let mut log = Log::default();
        for line in 0..=LINES_MAX {
            log.push_stderr(&line.to_string());
        }
        assert_eq!(log.stderr.len(), LINES_MAX);
        assert_eq!(log.stderr[0], "0");
        assert_eq!(log.stderr[LINES_MAX - 1], LINES_MAX.to_string());
    }

    #[test]
    fn a_mark_hides_what_came_before_it() {
        let mut log = Log::default();
        log.push_stdout(r#"{"event":"reservation_held"}"#);
        let mark = log.mark();
        assert!(log.find(Mark::default(), "reservation_held", |_| true).is_some());
        assert!(log.find(mark, "reservation_held", |_| true).is_none());
    }
}
