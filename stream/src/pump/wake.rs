//! Whom a leg wakes when it has something to read, or room to write: whoever polled it last.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use futures::task::AtomicWaker;

/// The carrier's waker, for whoever does not wait for the stream himself: it can be had before the
/// carrier runs, and outlives it.
#[derive(Debug, Default)]
pub(super) struct BackgroundWaker(AtomicWaker);

impl BackgroundWaker {
    /// To be said before the legs are looked at.
    pub(super) fn watch(&self, carrier: &Waker) {
        self.0.register(carrier);
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

/// A task of the program that waits for the stream, or did. Its waker is kept for the next time, which
/// is mostly the same task's.
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

    /// It got what it wanted.
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
