//! One direction of a substream.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

/// Polls one direction of a pipe only when that can help: after it returned `Pending`, it is not polled again
/// before it wakes us. Each poll of a substream takes a lock of the whole connection.
pub(super) struct Gate {
    shut: Arc<Shut>,
    /// `shut`, for the substream.
    waker: Waker,
}

#[derive(Default)]
struct Shut {
    is: AtomicBool,
    /// The task that polled last.
    waits: AtomicWaker,
}

impl Gate {
    pub(super) fn new() -> Self {
        let shut = Arc::new(Shut::default());
        Self { waker: Waker::from(shut.clone()), shut }
    }

    /// Polls, unless the pipe is still pending. The task that polled last is woken.
    pub(super) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        ask: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if self.shut.still(cx.waker()) {
            return Poll::Pending;
        }
        self.shut.is.store(true, Relaxed);
        let answer = ask(&mut Context::from_waker(&self.waker));
        if answer.is_ready() {
            self.shut.is.store(false, Relaxed);
        } else if !self.shut.still(cx.waker()) {
            // It was woken during the poll: tokio does so with a task that has used up its share. Poll later.
            cx.waker().wake_by_ref();
        }
        answer
    }

    /// Polls for a task that the pipe is to wake directly: a reader, which polls once for each wake anyway.
    pub(super) fn pass<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.shut.is.store(false, Relaxed);
        ask()
    }
}

impl Shut {
    /// Whether the pipe is still pending; if so, `program` will be woken.
    fn still(&self, program: &Waker) -> bool {
        if self.is.load(Relaxed) {
            self.waits.register(program);
        }
        // The pipe may have woken the task that was registered before.
        self.is.load(Relaxed)
    }
}

impl Wake for Shut {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is.store(false, Relaxed);
        self.waits.wake();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        sync::{Mutex, atomic::AtomicUsize, mpsc},
        thread,
        time::Duration,
    };

    use futures::{executor::block_on, future::poll_fn};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// A waker, and how often it was used.
    fn waker() -> (Waker, Arc<Woken>) {
        let woken = Arc::new(Woken::default());
        (Waker::from(woken.clone()), woken)
    }

    #[test]
    fn who_said_not_now_is_asked_again_only_after_a_wake() {
        let ((waker, woken), gate) = (waker(), Gate::new());
        let (mut asked, mut kept) = (0, None);
        let mut ask = |gate: &Gate| {
            gate.poll(&mut Context::from_waker(&waker), |cx| {
                asked += 1;
                kept = Some(cx.waker().clone());
                if asked < 3 { Poll::Pending } else { Poll::Ready(asked) }
            })
        };
        assert_eq!((ask(&gate), ask(&gate)), (Poll::Pending, Poll::Pending));
        assert_eq!(asked, 1);
        kept.iter().for_each(Waker::wake_by_ref);
        assert_eq!(woken.0.load(Relaxed), 1);
        let again = || gate.poll(&mut Context::from_waker(&waker), |_| Poll::Ready(()));
        assert_eq!((again(), again()), (Poll::Ready(()), Poll::Ready(())), "an answer leaves it open");
    }

    #[test]
    fn whoever_asked_last_is_woken_though_the_question_was_another_s() {
        let (gate, mut kept) = (Gate::new(), None);
        let ((first, first_woken), (last, last_woken)) = (waker(), waker());
        for waker in [&first, &last] {
            let polled = gate.poll(&mut Context::from_waker(waker), |cx| {
                kept = Some(cx.waker().clone());
                Poll::<()>::Pending
            });
            assert_eq!(polled, Poll::Pending);
        }
        kept.iter().for_each(Waker::wake_by_ref);
        assert_eq!((first_woken.0.load(Relaxed), last_woken.0.load(Relaxed)), (0, 1));
    }

    #[test]
    fn a_wake_while_it_answers_is_passed_on_and_nobody_asks_again_before() {
        let ((waker, woken), gate) = (waker(), Gate::new());
        let mut asked = 0;
        let polled = gate.poll(&mut Context::from_waker(&waker), |cx| {
            asked += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!((polled, asked, woken.0.load(Relaxed)), (Poll::Pending, 1, 1));
        assert!(gate.poll(&mut Context::from_waker(&waker), |_| Poll::Ready(())).is_ready());
    }

    #[test]
    fn who_is_woken_by_the_substream_asks_each_time_and_the_next_one_too() {
        let (waker, _) = waker();
        let (mut cx, gate, mut asked) = (Context::from_waker(&waker), Gate::new(), 0);
        let mut ask = || {
            asked += 1;
            Poll::<()>::Pending
        };
        assert!(gate.poll(&mut cx, |_| ask()).is_pending());
        assert!(gate.pass(&mut ask).is_pending() && gate.pass(&mut ask).is_pending());
        // The substream no longer knows whom the gate would wake.
        assert!(gate.poll(&mut cx, |_| ask()).is_pending());
        assert_eq!(asked, 4);
    }

    /// One thread gives, one takes, and each wake counts.
    #[test]
    fn no_wake_is_lost_between_threads() {
        const GIFTS: u32 = 20_000;
        const DEADLINE: Duration = Duration::from_secs(60);
        let slot: Arc<Mutex<(Option<u32>, Option<Waker>)>> = Arc::default();
        let (end, ended) = mpsc::channel();
        thread::spawn({
            let slot = slot.clone();
            move || {
                let mut next = 0;
                while next < GIFTS {
                    let mut slot = slot.lock().unwrap();
                    if slot.0.is_none() {
                        slot.0 = Some(next);
                        next += 1;
                        slot.1.take().into_iter().for_each(Waker::wake);
                    }
                }
            }
        });
        thread::spawn(move || {
            let gate = Gate::new();
            let mut take = poll_fn(|cx| {
                gate.poll(cx, |cx| {
                    let mut slot = slot.lock().unwrap();
                    slot.1 = Some(cx.waker().clone());
                    slot.0.take().map_or(Poll::Pending, Poll::Ready)
                })
            });
            let taken: Vec<u32> = (0..GIFTS).map(|_| block_on(&mut take)).collect();
            end.send(taken)
        });
        assert_eq!(ended.recv_timeout(DEADLINE), Ok((0..GIFTS).collect()));
    }
}
