//! An answer that is good for a moment.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// People do not see the difference, and who asks in a loop costs the node two answers a second.
const GOOD_FOR: Duration = Duration::from_millis(500);

/// Many who ask at once get one answer: the first who comes has it made, and the others wait for it.
pub(crate) struct Fresh<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Fresh<T> {
    /// For who asks at `now`: the last answer, or what comes of `make` if that is too old by then.
    pub(crate) async fn at(&self, now: Instant, make: impl Future<Output = T>) -> T {
        let mut kept = self.0.lock().await;
        if let Some((made, answer)) = &*kept
            && now < *made + GOOD_FOR
        {
            return answer.clone();
        }
        let answer = make.await;
        *kept = Some((Instant::now(), answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_who_ask_at_once_cost_one_answer_and_half_a_second_later_there_is_another() {
        let (fresh, made) = (Fresh::default(), AtomicU32::new(0));
        let make = async || {
            tokio::task::yield_now().await;
            made.fetch_add(1, Ordering::Relaxed)
        };
        let now = Instant::now();
        let all = futures::future::join_all((0..50).map(|_| fresh.at(now, make()))).await;
        assert_eq!(all, vec![0; 50]);
        let later = Instant::now() + GOOD_FOR;
        assert_eq!(fresh.at(now + GOOD_FOR / 2, make()).await, 0);
        assert_eq!(fresh.at(later, make()).await, 1);
    }
}
