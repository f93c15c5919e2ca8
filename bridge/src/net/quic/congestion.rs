//! How much of a connection may be under way: Cubic, as TCP has it, but for losses that are no sign of a full queue.
//!
//! Radio links lose packets at random. Cubic takes each loss for a full queue, and with 1 % of loss and a round trip of 60 ms it
//! carries 0.3 MB/s, however fast the line is. Here a loss counts unless both are true: round trips are hardly longer than the shortest
//! one, so that no queue stands, and no more is lost than a line loses at random. BBR draws that limit at 2 % as well
//! (draft-ietf-ccwg-bbr, `BBR.LossThresh`). Whoever shares a queue with others thus behaves as Cubic does, since their packets
//! make round trips longer.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig},
};

/// A line may lose one packet of so many.
const LOST_OF: u64 = 50;

/// Losses are counted over about so many packets, of which the first ones count less and less.
const COUNTED_PACKETS: u64 = 1_000;

/// A queue stands where round trips are longer than the shortest one by more than a quarter of it, or by this.
const QUEUE_MIN: Duration = Duration::from_millis(5);

/// What may be under way before anything is known of a path: ten of the packets that every path carries.
const INITIAL_BYTES: u64 = 12_000;

/// Makes a controller for each path.
#[derive(Debug)]
pub(super) struct Tolerant(Arc<CubicConfig>);

impl Tolerant {
    /// Two of the largest packets may be under way from the beginning (RFC 9002, section 7.2): where the first one tries
    /// that size, all else would wait for its acknowledgement, 25 ms.
    pub(super) fn new(largest_packet: u16) -> Self {
        let mut config = CubicConfig::default();
        config.initial_window(INITIAL_BYTES.max(2 * u64::from(largest_packet)));
        Self(Arc::new(config))
    }
}

impl ControllerFactory for Tolerant {
    fn build(self: Arc<Self>, now: Instant, packet_bytes: u16) -> Box<dyn Controller> {
        let inner = Arc::clone(&self.0).build(now, packet_bytes);
        Box::new(Filter { inner, losses: Losses::new(packet_bytes) })
    }
}

/// Cubic, which hears of those losses alone that count.
struct Filter {
    inner: Box<dyn Controller>,
    losses: Losses,
}

impl Controller for Filter {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.losses.arrived(bytes, rtt.get(), rtt.min());
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        // Where nothing was lost, a router said that its queue grows.
        if self.losses.count(lost_bytes) || is_persistent_congestion || lost_bytes == 0 {
            self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, packet_bytes: u16) {
        self.losses.packet_bytes = packet_bytes.into();
        self.inner.on_mtu_update(packet_bytes);
    }

    fn window(&self) -> u64 {
        self.inner.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), losses: self.losses.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What arrived of late, what did not, and whether a queue stands.
#[derive(Clone, Debug)]
struct Losses {
    packet_bytes: u64,
    arrived: u64,
    lost: u64,
    /// Not known before the first round trip: a loss counts until then.
    queue: bool,
}

impl Losses {
    fn new(packet_bytes: u16) -> Self {
        Self { packet_bytes: packet_bytes.into(), arrived: 0, lost: 0, queue: true }
    }

    fn arrived(&mut self, bytes: u64, round_trip: Duration, shortest: Duration) {
        self.arrived += bytes;
        self.queue = round_trip > shortest + (shortest / 4).max(QUEUE_MIN);
        self.fade();
    }

    /// Whether these count.
    fn count(&mut self, bytes: u64) -> bool {
        self.lost += bytes;
        self.fade();
        // One packet more than its share: at the beginning, one alone says nothing.
        let share = (self.arrived + self.lost) / LOST_OF + self.packet_bytes;
        self.queue || self.lost > share
    }

    fn fade(&mut self) {
        if self.arrived + self.lost > COUNTED_PACKETS * self.packet_bytes {
            self.arrived /= 2;
            self.lost /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    const PACKET: u64 = 1_452;

    const SHORTEST: Duration = Duration::from_millis(60);

    fn losses() -> Losses {
        Losses::new(1_452)
    }

    fn arrive(losses: &mut Losses, packets: u64, round_trip_ms: u64) {
        for _ in 0..packets {
            losses.arrived(PACKET, Duration::from_millis(round_trip_ms), SHORTEST);
        }
    }

    /// How many of so many losses count, each after so many packets that arrived.
    fn count(losses: &mut Losses, times: u64, between: u64, round_trip_ms: u64) -> usize {
        let each = (0..times).filter(|_| {
            arrive(losses, between, round_trip_ms);
            losses.count(PACKET)
        });
        each.count()
    }

    #[test]
    fn what_a_line_loses_at_random_does_not_count() {
        assert_eq!(count(&mut losses(), 1_000, 99, 61), 0);
        assert_eq!(count(&mut losses(), 1_000, 59, 74), 0);
    }

    #[test]
    fn every_loss_counts_while_a_queue_stands_and_before_anything_is_known() {
        assert!(losses().count(PACKET));
        assert_eq!(count(&mut losses(), 100, 99, 76), 100);
        let mut losses = losses();
        arrive(&mut losses, 1_000, 60);
        arrive(&mut losses, 1, 76);
        assert!(losses.count(PACKET));
        arrive(&mut losses, 1, 60);
        assert!(!losses.count(PACKET));
    }

    #[test]
    fn a_short_path_is_not_taken_for_a_queue_by_its_jitter() {
        let (mut losses, shortest) = (losses(), Duration::from_micros(300));
        losses.arrived(PACKET, Duration::from_millis(5), shortest);
        assert!(!losses.count(PACKET));
        losses.arrived(PACKET, Duration::from_millis(6), shortest);
        assert!(losses.count(PACKET));
    }

    #[test]
    fn more_than_that_counts_though_no_queue_stands_and_soon() {
        let mut losses = losses();
        arrive(&mut losses, 10_000, 60);
        // A queue of no length drops what is too much.
        let first = (1..1_000).find(|_| count(&mut losses, 1, 9, 60) == 1);
        assert!(first.is_some_and(|first| first < 20), "{first:?}");
        assert!(count(&mut losses, 100, 9, 60) > 90);
        // Long ago is forgotten.
        arrive(&mut losses, 3_000, 60);
        assert_eq!(count(&mut losses, 10, 99, 60), 0);
    }

    /// Counts what it hears.
    #[derive(Clone)]
    struct Counts(Arc<AtomicU64>);

    impl Controller for Counts {
        fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {
            self.0.fetch_add(1, Relaxed);
        }

        fn on_mtu_update(&mut self, _: u16) {}

        fn window(&self) -> u64 {
            PACKET
        }

        fn clone_box(&self) -> Box<dyn Controller> {
            Box::new(self.clone())
        }

        fn initial_window(&self) -> u64 {
            PACKET
        }

        fn into_any(self: Box<Self>) -> Box<dyn Any> {
            self
        }
    }

    #[test]
    fn cubic_hears_of_losses_that_count_of_persistent_ones_and_of_what_routers_say() {
        let (heard, mut losses) = (Arc::new(AtomicU64::new(0)), losses());
        arrive(&mut losses, 1_000, 60);
        let mut filter = Filter { inner: Box::new(Counts(Arc::clone(&heard))), losses };
        let now = Instant::now();
        let mut hears = |is_persistent, lost| {
            let before = heard.load(Relaxed);
            filter.on_congestion_event(now, now, is_persistent, lost);
            heard.load(Relaxed) - before
        };
        assert_eq!([hears(false, PACKET), hears(true, PACKET), hears(false, 0)], [0, 1, 1]);
        assert_eq!(hears(false, 100 * PACKET), 1);
    }
}
