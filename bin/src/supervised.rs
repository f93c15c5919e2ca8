//! Under a service manager that speaks systemd's protocol (`NOTIFY_SOCKET`): tells it when this process is usable, that
//! its loop still turns, and that it is about to end.
//!
//! [`Conduct`] decides what is said when; [`attend`] asks the loop and says it. Whoever asks waits for the loop without a
//! deadline: a loop that is stuck answers nothing, so nothing is said, and the service manager acts.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Between two looks while the process is not usable: it should be known soon when it is.
const UNREADY_PAUSE: Duration = Duration::from_millis(250);

/// Between two looks then, at most: for the line that `systemctl status` shows.
const READY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Times within the watchdog's patience that it hears of us: one may be late.
const BEATS: u32 = 3;

/// How long the start may take from each word on: relays that are down are no reason to be started again, but a loop that
/// is stuck before it is usable is one.
const MORE_TIME: Duration = Duration::from_secs(90);

/// Between two such words.
const MORE_TIME_INTERVAL: Duration = Duration::from_secs(10);

/// What is said to the service manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The process is usable.
    Ready,
    /// Its loop has turned.
    Alive,
    /// It is still starting.
    MoreTime,
    /// What it does, for people.
    Doing(String),
}

/// Decides what is said.
struct Conduct {
    watchdog: Option<Duration>,
    ready: bool,
    more_time: Option<Instant>,
    doing: String,
}

impl Conduct {
    fn new(watchdog: Option<Duration>) -> Self {
        Self { watchdog, ready: false, more_time: None, doing: String::new() }
    }

    /// The loop has answered: the process is usable, or this hinders it.
    fn answered(&mut self, hindrance: Option<String>, now: Instant) -> Vec<Word> {
        let mut words = Vec::new();
        match (self.ready, &hindrance) {
            (false, None) => {
                self.ready = true;
                words.push(Word::Ready);
            }
            (false, Some(_)) if self.more_time.is_none_or(|said| now >= said + MORE_TIME_INTERVAL) => {
                self.more_time = Some(now);
                words.push(Word::MoreTime);
            }
            _ => {}
        }
        if self.watchdog.is_some() {
            words.push(Word::Alive);
        }
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
        let most = if self.ready { READY_PAUSE_MAX } else { UNREADY_PAUSE };
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
        say(conduct.answered(hindrance, Instant::now()));
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
        Word::MoreTime => NotifyState::ExtendTimeoutUsec(MORE_TIME.as_micros() as u32),
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
    fn ready_is_said_once_and_when_the_node_is_usable() {
        let (mut conduct, now) = (Conduct::new(None), Instant::now());
        let waiting = [Word::MoreTime, Word::Doing("not usable: no relay".to_owned())];
        assert_eq!(conduct.answered(hindered(), now), waiting);
        assert_eq!(conduct.answered(hindered(), now), []);
        assert_eq!(conduct.answered(None, now), [Word::Ready, Word::Doing("usable".to_owned())]);
        let later = [Word::Doing("not usable: no relay".to_owned())];
        assert_eq!(conduct.answered(hindered(), now), later, "no second start");
        assert_eq!(conduct.answered(None, now), [Word::Doing("usable".to_owned())]);
    }

    #[test]
    fn a_start_that_takes_long_asks_for_more_time_before_what_it_has_is_over() {
        let (mut conduct, start) = (Conduct::new(None), Instant::now());
        let (mut now, mut last) = (start, start);
        while now < start + 10 * MORE_TIME {
            if conduct.answered(hindered(), now).contains(&Word::MoreTime) {
                last = now;
            }
            assert!(now < last + MORE_TIME / 2);
            now += conduct.pause();
        }
    }

    #[test]
    fn the_watchdog_hears_of_a_loop_that_turns_three_times_within_its_patience() {
        let (mut conduct, now) = (Conduct::new(Some(PATIENCE)), Instant::now());
        assert!(conduct.answered(None, now).contains(&Word::Alive));
        assert!(conduct.answered(None, now).contains(&Word::Alive));
        assert!(conduct.pause() * BEATS <= PATIENCE);
        let mut without = Conduct::new(None);
        assert!(!without.answered(None, now).contains(&Word::Alive));
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
