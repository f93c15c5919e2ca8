//! Tasks that are woken when a leg has something to read or room to write.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use futures::task::AtomicWaker;

/// Wakes the background task. It exists before that task runs, and outlives it.
#[derive(Debug, Default)]
pub(super) struct BackgroundWaker(AtomicWaker);

impl BackgroundWaker {
    /// Wakes this task from now on. To be called before the legs are polled.
    pub(super) fn watch(&self, background: &Waker) {
        self.0.register(background);
    }
}

impl Wake for BackgroundWaker {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

/// The task of the program that reads, or writes. Its waker is kept after the wait, since mostly the same
/// task waits again.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    waker: Option<Waker>,
    waits: bool,
}

impl Waiter {
    /// The task waits from now on.
    pub(super) fn wait(&mut self, task: &Waker) {
        self.waits = true;
        match &mut self.waker {
            Some(waker) => waker.clone_from(task),
            None => self.waker = Some(task.clone()),
        }
    }

    /// The task got what it waited for.
    pub(super) fn done(&mut self) {
        self.waits = false;
    }

    /// Whether it is this task that waits.
    pub(super) fn is(&self, task: &Waker) -> bool {
        self.waker().is_some_and(|waker| waker.will_wake(task))
    }

    /// Whether it waits.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// What wakes it, if it waits.
    pub(super) fn waker(&self) -> Option<&Waker> {
        self.waker.as_ref().filter(|_| self.waits)
    }

    /// Wakes it, if it waits.
    pub(super) fn wake(&mut self) {
        self.waker().into_iter().for_each(Waker::wake_by_ref);
        self.waits = false;
    }
}
