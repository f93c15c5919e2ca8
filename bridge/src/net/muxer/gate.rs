//! Wakes the task that moves a connection, but for what whoever writes to a substream does itself a moment later.
//!
//! Yamux wakes the connection's task for each frame that is written. A small message is written and flushed in one go, and then the
//! writer may as well move the connection itself, which saves the way over the task: [`Gate::aside`] has the wake-up
//! *owed*, until somebody moves the connection or [settles](Gate::settle) the debt by waking the task. What wakes the
//! connection from elsewhere meanwhile, such as its socket, wakes the task as ever.
//!
//! The debt is the connection's and not the writer's: the queue from which Yamux takes what substreams say wakes once and is
//! then silent until it is looked into, so what a second one says wakes nobody while the first one owes it. Hence all that
//! substreams do ends by looking whether a wake-up is owed.

use std::{
    cell::Cell,
    ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Wake, Waker},
};

thread_local! {
    /// The gate of the substream that this thread writes to at the moment.
    static ASIDE: Cell<*const Gate> = const { Cell::new(ptr::null()) };
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Gate {
    task: Mutex<Option<Waker>>,
    owed: AtomicBool,
}

impl Gate {
    /// The task is this one from now on.
    pub(super) fn is_task(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    /// Wakes the task, if there is one yet.
    pub(super) fn open(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Does something, and what that wakes the task for is owed.
    pub(super) fn aside<T>(&self, does: impl FnOnce() -> T) -> T {
        let before = ASIDE.replace(ptr::from_ref(self));
        let done = does();
        ASIDE.set(before);
        done
    }

    /// Somebody is about to move the connection: nothing is owed from now on. True if something was.
    pub(super) fn forgive(&self) -> bool {
        self.owed.swap(false, SeqCst)
    }

    /// Wakes the task if that is owed.
    pub(super) fn settle(&self) {
        if self.owed.load(SeqCst) && self.forgive() {
            self.open();
        }
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if ptr::eq(ASIDE.get(), Arc::as_ptr(self)) {
            self.owed.store(true, SeqCst);
        } else {
            self.open();
        }
    }
}

/// Settles what is owed when it is dropped.
#[derive(Debug)]
pub(super) struct Settles(pub(super) Arc<Gate>);

impl Drop for Settles {
    fn drop(&mut self) {
        self.0.settle();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn only_what_the_writer_does_itself_leaves_the_task_asleep_and_is_owed() {
        let (gate, task) = (Arc::new(Gate::default()), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&gate));
        waker.wake_by_ref();
        gate.is_task(&Waker::from(Arc::clone(&task)));
        let woken = || task.0.load(SeqCst);
        waker.wake_by_ref();
        assert_eq!(woken(), 1);
        gate.aside(|| waker.wake_by_ref());
        assert_eq!((woken(), gate.forgive(), gate.forgive()), (1, true, false));
        gate.settle();
        assert_eq!(woken(), 1, "nothing is owed");
        gate.aside(|| waker.wake_by_ref());
        drop(Settles(Arc::clone(&gate)));
        assert_eq!((woken(), gate.forgive()), (2, false));
        // From another thread, or another connection, within the same moment.
        let other = Arc::new(Gate::default());
        other.is_task(&Waker::from(Arc::clone(&task)));
        gate.aside(|| {
            Waker::from(other).wake();
            std::thread::scope(|threads| threads.spawn(|| waker.wake_by_ref()).join()).ok()
        });
        assert_eq!((woken(), gate.forgive()), (4, false));
    }
}
