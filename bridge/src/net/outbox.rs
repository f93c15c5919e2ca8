//! What a behaviour has to tell the swarm, and the task to wake for it.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

/// The oldest first. Whoever owns it says what bounds it.
pub(crate) struct Outbox<T> {
    queue: VecDeque<T>,
    waker: Option<Waker>,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), waker: None }
    }
}

impl<T> Outbox<T> {
    /// Adds something, and wakes the task that found nothing before.
    pub(crate) fn push(&mut self, item: T) {
        self.queue.push_back(item);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next one; while there is none, the task is woken by [`Outbox::push`].
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(item) = self.queue.pop_front() {
            return Poll::Ready(item);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_something_is_woken_by_it_and_the_oldest_comes_first() {
        let outbox = std::sync::Mutex::new(Outbox::default());
        let lock = || outbox.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let waits = poll_fn(|cx| lock().poll(cx));
        let pushes = async {
            tokio::task::yield_now().await;
            lock().push(1);
            lock().push(2);
        };
        let (first, ()) = tokio::join!(waits, pushes);
        assert_eq!((first, poll_fn(|cx| lock().poll(cx)).await), (1, 2));
    }
}
