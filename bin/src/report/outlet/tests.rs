#![allow(clippy::unwrap_used)]
use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A place that a test opens and closes. `None`: whoever writes waits.
#[derive(Clone, Default)]
struct Stub(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    mood: Mood,
    written: Vec<String>,
    attempts: usize,
    opened: usize,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Mood {
    #[default]
    Takes,
    Fails(io::ErrorKind),
    /// Whoever writes waits.
    Waits,
}

impl Stub {
    fn set(&self, mood: Mood) {
        self.0.0.lock().unwrap().mood = mood;
        self.0.1.notify_all();
    }

    fn written(&self) -> Vec<String> {
        self.0.0.lock().unwrap().written.clone()
    }

    fn wait_until(&self, holds: impl Fn(&State) -> bool) {
        let (state, changed) = &*self.0;
        let waited = changed.wait_timeout_while(state.lock().unwrap(), SOON, |state| !holds(state));
        assert!(!waited.unwrap().1.timed_out());
    }
}

impl Destination for Stub {
    fn write(&mut self, line: &str) -> io::Result<()> {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.attempts += 1;
        changed.notify_all();
        let mut state = changed.wait_while(state, |state| state.mood == Mood::Waits).unwrap();
        match state.mood {
            Mood::Fails(kind) => Err(kind.into()),
            _ => {
                state.written.push(line.trim_end().to_owned());
                Ok(())
            }
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.0.0.lock().unwrap().opened += 1;
        self.set(Mood::Takes);
        Ok(())
    }
}

fn outlet(bytes_max: usize, stub: &Stub) -> Outlet {
    let voice = Voice { subject: None, gap: |count| format!("lost {count}\n") };
    Outlet::with_room(bytes_max, stub.clone(), voice).unwrap()
}

#[test]
fn what_does_not_fit_is_dropped_whole_and_counted_where_it_is_missing() {
    let stub = Stub::default();
    stub.set(Mood::Waits);
    let outlet = outlet(12, &stub);
    outlet.send("first\n".to_owned());
    // The thread has taken the first out, and waits with it.
    stub.wait_until(|state| state.attempts == 1);
    for line in ["one..\n", "two..\n", "gone1\n", "gone2\n"] {
        outlet.send(line.to_owned());
    }
    stub.set(Mood::Takes);
    outlet.finish(SOON);
    outlet.send("too late, but never waits\n".to_owned());
    assert_eq!(stub.written()[..4], ["first", "one..", "two..", "lost 2"]);
}

#[test]
fn a_place_that_never_takes_a_line_stalls_nobody_and_costs_no_more_than_its_room() {
    let stub = Stub::default();
    stub.set(Mood::Waits);
    let outlet = outlet(1000, &stub);
    for _ in 0..100_000 {
        outlet.send("a line of twenty b.\n".to_owned());
    }
    let queue = outlet.0.lock();
    assert!(queue.bytes <= 1000 && queue.entries.len() <= 52, "{} bytes", queue.bytes);
    drop(queue);
    let began = Instant::now();
    outlet.finish(Duration::from_millis(50));
    assert!(began.elapsed() < SOON);
    stub.set(Mood::Takes);
}

#[test]
fn a_line_that_a_full_disk_refused_is_written_when_it_has_room_again() {
    let stub = Stub::default();
    stub.set(Mood::Fails(io::ErrorKind::StorageFull));
    let outlet = outlet(100, &stub);
    for line in ["one\n", "two\n"] {
        outlet.send(line.to_owned());
    }
    stub.wait_until(|state| state.attempts == 1);
    stub.set(Mood::Takes);
    stub.wait_until(|state| state.written == ["one", "two"]);
    assert!(outlet.0.lock().losing.is_none_or(|lost| lost == 0));
}

#[test]
fn a_full_disk_at_the_end_is_not_waited_for() {
    let stub = Stub::default();
    stub.set(Mood::Fails(io::ErrorKind::StorageFull));
    let outlet = outlet(100, &stub);
    for line in ["one\n", "two\n"] {
        outlet.send(line.to_owned());
    }
    let began = Instant::now();
    outlet.finish(Duration::from_secs(3600));
    assert!(began.elapsed() < SOON);
    assert_eq!(outlet.0.lock().left(), 2);
}

#[test]
fn a_file_is_opened_anew_even_while_it_takes_nothing() {
    let stub = Stub::default();
    stub.set(Mood::Fails(io::ErrorKind::StorageFull));
    let outlet = outlet(100, &stub);
    outlet.send("one\n".to_owned());
    stub.wait_until(|state| state.attempts == 1);
    outlet.reopen();
    stub.wait_until(|state| state.opened == 1 && state.written == ["one"]);
    outlet.reopen();
    stub.wait_until(|state| state.opened == 2);
}

#[test]
fn a_reader_that_has_gone_is_not_written_to_any_more() {
    let stub = Stub::default();
    stub.set(Mood::Fails(io::ErrorKind::BrokenPipe));
    let outlet = outlet(100, &stub);
    outlet.send("one\n".to_owned());
    outlet.finish(SOON);
    let queue = outlet.0.lock();
    assert!(queue.ended && queue.left() == 0);
}
