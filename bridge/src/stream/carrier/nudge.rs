//! Whom a leg wakes when it has something to read, or room to write.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use futures::task::AtomicWaker;

/// The waker that legs are polled with, whoever polls them: wakes the program if it waits for the
/// stream, else the carrier. One hop from a connection to a reader instead of two.
#[derive(Debug, Default)]
pub(super) struct Nudge {
    program: AtomicWaker,
    carrier: AtomicWaker,
}

impl Nudge {
    /// The program waits, and will see to the legs when it is woken.
    pub(super) fn attend(&self, program: &Waker) {
        self.program.register(program);
    }

    /// The program is not to be counted on. Who waited for it, unless it was woken since.
    pub(super) fn dismiss(&self) -> Option<Waker> {
        self.program.take()
    }

    /// Wakes the program, if it waits and was not woken since.
    pub(super) fn program(&self) {
        self.program.wake();
    }

    /// To be said before the legs are looked at.
    pub(super) fn watch(&self, carrier: &Waker) {
        self.carrier.register(carrier);
    }

    /// Wakes the carrier, whoever waits.
    pub(super) fn carrier(&self) {
        self.carrier.wake();
    }
}

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match self.program.take() {
            Some(program) => program.wake(),
            None => self.carrier.wake(),
        }
    }
}
