//! How a line of the log looks: a sentence for people, or a JSON object for programs. Pure but for the time.

use std::{error::Error, fmt};

use serde_json::{Map, Value, json};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::plain::one_line;

/// The target of entries that tell of an event: their sentence says it all to people.
pub(super) const EVENT: &str = "punchline::event";

/// The field of such an entry that holds the event, as JSON.
const FACTS: &str = "facts";

/// `2026-11-29T17:08:08.123Z INFO  a sentence (name: value)`.
pub(super) struct Text;

/// One JSON object a line; what an event is about stands in `fields`, beside the sentence.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Found { message, fields } = Found::of(event);
        let level = *event.metadata().level();
        write!(writer, "{:.3} ", jiff::Timestamp::now())?;
        match writer.has_ansi_escapes() {
            true => write!(writer, "\x1b[{}m{level:<5}\x1b[0m ", colour(level))?,
            false => write!(writer, "{level:<5} ")?,
        }
        if event.metadata().target() == EVENT {
            return writeln!(writer, "{message}");
        }
        writer.write_str(&one_line(&message))?;
        let named = |(name, value): (&String, &Value)| match value {
            Value::String(text) => format!("{name}: {}", one_line(text)),
            other => format!("{name}: {other}"),
        };
        let named: Vec<String> = fields.iter().map(named).collect();
        match named.is_empty() {
            true => writeln!(writer),
            false if message.is_empty() => writeln!(writer, "{}", named.join(", ")),
            false => writeln!(writer, " ({})", named.join(", ")),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Found { message, mut fields } = Found::of(event);
        if let Some(Value::String(facts)) = fields.remove(FACTS)
            && let Ok(Value::Object(facts)) = serde_json::from_str(&facts)
        {
            fields.extend(facts);
        }
        let mut all = Map::from_iter([("message".to_owned(), Value::String(message))]);
        all.extend(fields);
        let timestamp = format!("{:.6}", jiff::Timestamp::now());
        let level = event.metadata().level().as_str();
        let target = event.metadata().target();
        let line = json!({ "timestamp": timestamp, "level": level, "target": target, "fields": all });
        writeln!(writer, "{line}")
    }
}

/// What an entry says.
#[derive(Default)]
struct Found {
    message: String,
    fields: Map<String, Value>,
}

impl Found {
    fn of(event: &Event<'_>) -> Self {
        let mut found = Self::default();
        event.record(&mut found);
        found
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Found {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, value.to_string().into());
    }
}

fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use crate::report::tests::logged;

    #[test]
    fn people_read_a_sentence_and_programs_its_fields() {
        let run = || tracing::warn!(lost = 5, error = "no\nroom", "lines were lost");
        let text = logged(false, run);
        assert!(text.ends_with("Z WARN  lines were lost (lost: 5, error: no room)\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&logged(true, run)).expect("JSON");
        let fields = serde_json::json!({ "message": "lines were lost", "lost": 5, "error": "no\nroom" });
        assert_eq!((&json["level"], &json["fields"]), (&"WARN".into(), &fields));
    }
}
