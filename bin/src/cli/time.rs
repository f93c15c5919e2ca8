//! Lengths of time, as people write them.

use std::{str::FromStr, time::Duration};

use jiff::{Span, SpanRelativeTo};

/// The length of time in `text`, if it is from 1 second to `max`; `form` says what may be written.
pub(super) fn length(text: &str, max: Duration, form: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|_| format!("not a time; {form}"))?;
    // Months and years are not all of one length.
    let exact = span.to_duration(SpanRelativeTo::days_are_24_hours());
    let exact = exact.ok().and_then(|exact| Duration::try_from(exact).ok());
    match exact {
        Some(exact) if exact >= Duration::from_secs(1) && exact <= max => Ok(exact),
        _ => Err(format!("not possible; {form}")),
    }
}

/// How long a stream without a path waits for one: from 1 second to a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience(Duration);

/// A machine that sleeps over night comes back within it.
const PATIENCE_MAX: Duration = Duration::from_secs(24 * 3600);

const PATIENCE_FORM: &str = "say 90s, 15m or 2h; from 1 second to 24 hours";

impl Patience {
    /// As a duration.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Patience {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        length(text, PATIENCE_MAX, PATIENCE_FORM).map(Self)
    }
}

/// How long a stream to a peer may take to come about: from 1 second to 10 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectTimeout(Duration);

/// Whoever wants to wait for longer tries again, and hears meanwhile what was in the way.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(600);

const CONNECT_TIMEOUT_FORM: &str = "say 10s or 1m; from 1 second to 10 minutes";

impl ConnectTimeout {
    /// As a duration.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for ConnectTimeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        length(text, CONNECT_TIMEOUT_MAX, CONNECT_TIMEOUT_FORM).map(Self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn patience_is_a_number_and_a_unit_from_a_second_to_a_day() {
        for (text, seconds) in [("1s", 1), ("2m", 120), ("2h", 7200), ("24h", 86_400)] {
            assert_eq!(text.parse::<Patience>().unwrap().duration().as_secs(), seconds, "{text}");
        }
        for bad in ["", "0s", "25h", "60", "forever"] {
            let error = bad.parse::<Patience>().unwrap_err();
            assert!(error.contains("90s, 15m or 2h"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_connection_may_take_from_a_second_to_ten_minutes() {
        for (text, seconds) in [("1s", 1), ("10s", 10), ("1m", 60), ("10m", 600)] {
            assert_eq!(text.parse::<ConnectTimeout>().unwrap().duration().as_secs(), seconds, "{text}");
        }
        for bad in ["", "0s", "11m", "10", "never"] {
            let error = bad.parse::<ConnectTimeout>().unwrap_err();
            assert!(error.contains("say 10s or 1m"), "{bad}: {error}");
        }
    }
}
