//! Under a service manager that speaks systemd's protocol (`NOTIFY_SOCKET`): tells it that this process has started, that
//! its loop still turns, what keeps it from being usable, and that it is about to end.
//!
//! Started is not usable: that a relay serves a node is up to others, and a boot or an upgrade does not wait for them.
//!
//! [`Conduct`] decides what is said when; [`attend`] asks the loop and says it. Whoever asks waits for the loop without a
//! deadline: a loop that is stuck answers nothing, so nothing is said, and the service manager acts.

use std::time::Duration;

use sd_notify::NotifyState;

/// Between two looks, at most: for the line that `systemctl status` shows, which should say soon that the process is usable.
const PAUSE_MAX: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Times within the watchdog's patience that it hears of us: one may be late.
const BEATS: u32 = 3;

/// What is said to the service manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The process has started: it listens, and its settings hold.
    Ready,
    /// Its loop has turned.
    Alive,
    /// What it does, for people.
    Doing(String),
}

/// Decides what is said.
struct Conduct {
    watchdog: Option<Duration>,
    started: bool,
    usable: bool,
    doing: String,
}

impl Conduct {
    fn new(watchdog: Option<Duration>) -> Self {
        Self { watchdog, started: false, usable: false, doing: String::new() }
    }

    /// The loop has answered, so it turns; the process is usable, or this hinders it.
    fn answered(&mut self, hindrance: Option<String>) -> Vec<Word> {
        let mut words = Vec::new();
        if !std::mem::replace(&mut self.started, true) {
            words.push(Word::Ready);
        }
        if self.watchdog.is_some() {
            words.push(Word::Alive);
        }
        self.usable = hindrance.is_none();
        let doing = hindrance.map_or("usable".to_owned(), |why| format!("not usable: {why}"));
        // A line of its own would be another word to the service manager.
        let doing = doing.replace(char::is_control, " ");
        if doing != self.doing {
            self.doing.clone_from(&doing);
            words.push(Word::Doing(doing));
        }
        words
    }

    fn pause(&self) -> Duration {
        let most = if self.usable { PAUSE_MAX.1 } else { PAUSE_MAX.0 };
        self.watchdog.map_or(most, |patience| (patience / BEATS).min(most))
    }
}

/// Whether there is a service manager to tell.
pub(crate) fn is_supervised() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty())
}

/// Tells the service manager how it goes, for ever; nothing if there is none. `ask` asks the loop what hinders the process
/// from being usable; none of the outer kind: the loop has ended.
pub(crate) async fn attend(ask: impl AsyncFn() -> Option<Option<String>>) {
    if is_supervised() {
        tell(Conduct::new(sd_notify::watchdog_enabled()), ask, say).await;
    }
    std::future::pending().await
}

async fn tell(
    mut conduct: Conduct,
    ask: impl AsyncFn() -> Option<Option<String>>,
    mut say: impl FnMut(Vec<Word>),
) {
    while let Some(hindrance) = ask().await {
        say(conduct.answered(hindrance));
        tokio::time::sleep(conduct.pause()).await;
    }
}

/// The process was told to stop.
pub(crate) fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn say(words: Vec<Word>) {
    let states: Vec<_> = words.iter().map(state).collect();
    send(&states);
}

fn state(word: &Word) -> NotifyState<'_> {
    match word {
        Word::Ready => NotifyState::Ready,
        Word::Alive => NotifyState::Watchdog,
        Word::Doing(what) => NotifyState::Status(what),
    }
}

fn send(states: &[NotifyState<'_>]) {
    if states.is_empty() || !is_supervised() {
        return;
    }
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager is not told");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn hindered() -> Option<String> {
        Some("no relay".to_owned())
    }

    #[test]
    fn ready_is_said_once_and_waits_for_no_relay() {
        let mut conduct = Conduct::new(None);
        let missing = Word::Doing("not usable: no relay".to_owned());
        assert_eq!(conduct.answered(hindered()), [Word::Ready, missing.clone()]);
        assert_eq!(conduct.answered(hindered()), []);
        assert_eq!(conduct.answered(None), [Word::Doing("usable".to_owned())]);
        assert_eq!(conduct.answered(hindered()), [missing], "no second start");
    }

    #[test]
    fn what_hinders_a_process_is_one_line_whatever_others_had_put_into_it() {
        let mut conduct = Conduct::new(None);
        let words = conduct.answered(Some("closed: x\nWATCHDOG=trigger\r\nSTOPPING=1".to_owned()));
        let lines = words.iter().map(|word| match state(word) {
            NotifyState::Status(status) => status.lines().count(),
            _ => 1,
        });
        assert!(lines.clone().all(|lines| lines == 1), "{words:?}");
        assert_eq!(lines.count(), 2);
    }

    #[test]
    fn whoever_reads_the_status_learns_within_a_second_that_it_is_usable() {
        let mut conduct = Conduct::new(Some(PATIENCE));
        conduct.answered(hindered());
        assert_eq!(conduct.pause(), PAUSE_MAX.0);
        conduct.answered(None);
        assert_eq!(conduct.pause(), PAUSE_MAX.1);
    }

    #[test]
    fn the_watchdog_hears_of_a_loop_that_turns_three_times_within_its_patience() {
        let mut conduct = Conduct::new(Some(PATIENCE));
        assert!(conduct.answered(None).contains(&Word::Alive));
        assert!(conduct.answered(None).contains(&Word::Alive));
        assert!(conduct.pause() * BEATS <= PATIENCE);
        let mut without = Conduct::new(None);
        assert!(!without.answered(None).contains(&Word::Alive));
    }

    #[tokio::test]
    async fn a_loop_that_is_stuck_stops_the_pings() {
        let (said, turns) = (RefCell::new(Vec::new()), RefCell::new(0));
        let stuck = tokio::sync::Notify::new();
        let ask = async || {
            *turns.borrow_mut() += 1;
            if *turns.borrow() > 3 {
                stuck.notify_one();
                std::future::pending::<()>().await;
            }
            Some(None)
        };
        let patience = Duration::from_millis(9);
        let telling = tell(Conduct::new(Some(patience)), ask, |words| said.borrow_mut().extend(words));
        let mut telling = std::pin::pin!(telling);
        tokio::select! {
            () = &mut telling => panic!("it ended"),
            () = stuck.notified() => {}
        }
        let silent = tokio::time::timeout(10 * patience, telling).await;
        assert!(silent.is_err(), "it waits for the loop");
        let pings = said.borrow().iter().filter(|word| **word == Word::Alive).count();
        assert_eq!(pings, 3);
    }
}
