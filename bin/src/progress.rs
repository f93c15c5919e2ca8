//! One line on a terminal that says what goes on while something takes long, drawn anew until it is done, and then gone.
//! Without a terminal there is none, so that nothing lands in files and pipes; with `-q` neither. It has no colours.

use std::{
    io::{self, IsTerminal as _, Write as _},
    pin::pin,
    time::Duration,
};

use tokio::time::{Instant, interval_at};

use crate::plain::one_line;

/// What is done sooner shows nothing.
const SHOWN_AFTER: Duration = Duration::from_millis(500);

/// Between two drawings.
const REDRAWN: Duration = Duration::from_millis(250);

/// Letters of the line: terminals are 80 wide, and a line that wraps cannot be taken back.
const WIDTH: usize = 78;

/// One after the other, so that something moves.
const MOVING: [char; 4] = ['|', '/', '-', '\\'];

/// Back to the start of the line, and what stands there cleared.
const CLEARED: &str = "\r\x1b[K";

/// Does `work`, and meanwhile shows what `doing` says.
pub(crate) async fn beside<T>(
    quiet: bool,
    doing: impl Fn() -> String,
    work: impl Future<Output = T>,
) -> T {
    let term = std::env::var("TERM");
    if !is_shown(quiet, io::stderr().is_terminal(), term.as_deref().unwrap_or_default()) {
        return work.await;
    }
    let (start, mut work) = (Instant::now(), pin!(work));
    let (mut draw, mut drawn) = (interval_at(start + SHOWN_AFTER, REDRAWN), 0);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = draw.tick() => {
                show(&line(&doing(), start.elapsed(), drawn));
                drawn += 1;
            }
        }
    };
    if drawn > 0 {
        show("");
    }
    done
}

fn is_shown(quiet: bool, terminal: bool, term: &str) -> bool {
    !quiet && terminal && term != "dumb"
}

/// A terminal that takes nothing shows nothing: that is no failure of the work.
fn show(line: &str) {
    let mut out = io::stderr();
    let _ = write!(out, "{CLEARED}{line}").and_then(|()| out.flush());
}

fn line(doing: &str, elapsed: Duration, drawn: usize) -> String {
    let moving = MOVING[drawn % MOVING.len()];
    let seconds = format!(" {} s", elapsed.as_secs());
    let room = WIDTH.saturating_sub(seconds.len() + 2);
    let doing = one_line(doing);
    let doing = match doing.char_indices().nth(room) {
        Some((end, _)) => doing.get(..end).unwrap_or_default(),
        None => &doing,
    };
    format!("{moving} {doing}{seconds}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_on_a_terminal_alone_and_not_to_who_wants_quiet() {
        assert!(is_shown(false, true, "xterm"));
        for (quiet, terminal, term) in
            [(true, true, "xterm"), (false, false, "xterm"), (false, true, "dumb")]
        {
            assert!(!is_shown(quiet, terminal, term));
        }
    }

    #[test]
    fn the_line_moves_and_never_wraps_and_others_cannot_write_over_the_screen() {
        let at =
            |seconds, drawn| line("waits for\u{1b}[2J a relay", Duration::from_secs(seconds), drawn);
        assert_eq!(at(0, 0), "| waits for [2J a relay 0 s");
        assert_eq!(at(61, 5), "/ waits for [2J a relay 61 s");
        let long = line(&"ä".repeat(500), Duration::from_secs(3600), 0);
        assert!(long.chars().count() <= WIDTH && long.ends_with(" 3600 s"), "{long}");
    }

    #[tokio::test]
    async fn without_a_terminal_the_work_is_done_all_the_same() {
        assert_eq!(beside(true, || unreachable!("nothing is shown"), async { 7 }).await, 7);
    }
}
