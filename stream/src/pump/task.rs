//! The background task of a stream: it runs when a leg or a timer wakes it.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{Inner, Shared, leg::LegIo};
use crate::route::Route;

/// A timer that fires this much too late: the process did not get to run, or the machine slept.
const LATE: Duration = Duration::from_millis(250);

/// The task of one stream.
pub(super) struct Background<R: Route> {
    shared: Arc<Shared<R>>,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl<R: Route> Background<R> {
    pub(super) fn new(shared: Arc<Shared<R>>) -> Self {
        Self { shared, timer: Box::pin(tokio::time::sleep_until(tokio::time::Instant::now())) }
    }
}

impl<R: Route> Future for Background<R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut inner = this.shared.lock();
        inner.background.watch(cx.waker());
        loop {
            let now = Instant::now();
            inner.check_attendance(now);
            if !inner.drive(&this.shared.waker) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if inner.attendance.until.is_none() {
                inner.legs.iter_mut().for_each(LegIo::release);
            }
            if inner.closed && inner.legs.is_empty() {
                return Poll::Ready(());
            }
            let Some(due) = inner.deadline() else {
                inner.armed = None;
                return Poll::Pending;
            };
            if due <= now {
                inner.look_around(due, now);
                inner.machine.handle_timeout(now);
                continue;
            }
            // Deadlines move with every frame. A timer that is set to an earlier one is left alone: when it fires,
            // this loop finds the later one.
            if inner.armed.is_some_and(|armed| now < armed && armed <= due) {
                return Poll::Pending;
            }
            inner.armed = Some(due);
            this.timer.as_mut().reset(due.into());
            if this.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<R: Route> Inner<R> {
    /// Before the machine judges legs by their silence: tells it when something was heard on their routes by
    /// other streams. A process that did not get to run has not listened, and counts as having heard now.
    fn look_around(&mut self, due: Instant, now: Instant) {
        let starved = now.saturating_duration_since(due) > LATE;
        for leg in &self.legs {
            if let Some(at) = leg.route.pulse().last().max(starved.then_some(now)) {
                self.machine.heard_beside(leg.id, at);
            }
        }
    }
}
