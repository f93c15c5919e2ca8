//! What came of the latest verification of discovery.

use super::families::{Book, Gauges, Label, combinations, gauges};
use crate::finding::event::DhtEvent;

const STEP: Label = ("step", &["1", "2", "3", "4", "5", "6"]);
const VERDICT: Label = ("verdict", &["pass", "warn", "fail"]);

pub(super) struct Verifications {
    steps: Gauges<2>,
}

impl Default for Verifications {
    fn default() -> Self {
        Self { steps: gauges([STEP, VERDICT]) }
    }
}

impl Verifications {
    pub(super) fn register(&self, book: &mut Book<'_>) {
        book.add(
            "verify_step",
            "1 for the verdict on each step of the latest verification of discovery, and 0 for the others: 1 table, 2 \
             publish, 3 read, 4 peers, 5 directions, 6 members. All are 0 before the first one, and without a DHT",
            self.steps.clone(),
        );
    }

    /// Told only when a verdict changes; until then the last ones hold.
    pub(super) fn record(&self, event: &DhtEvent) {
        let DhtEvent::DiscoveryVerified { steps, .. } = event else { return };
        for labels in combinations([STEP, VERDICT]) {
            let [(_, step), (_, verdict)] = labels;
            let holds = |told: &&crate::finding::event::VerifiedStep| {
                told.step.to_string() == step && told.verdict == verdict
            };
            self.steps.get_or_create(&labels).set(steps.iter().find(holds).is_some().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::event::VerifiedStep;

    fn told(verdict: &'static str) -> DhtEvent {
        let step = |step| VerifiedStep {
            step,
            name: "",
            verdict: if step == 3 { verdict } else { "pass" },
            found: String::new(),
            advice: None,
        };
        DhtEvent::DiscoveryVerified { verdict, steps: (1..=6).map(step).collect() }
    }

    #[test]
    fn each_step_has_the_verdict_that_was_told_last_and_none_before() {
        let of = |all: &Verifications, step, verdict| {
            all.steps.get_or_create(&[("step", step), ("verdict", verdict)]).get()
        };
        let all = Verifications::default();
        assert_eq!(of(&all, "3", "pass") + of(&all, "3", "warn") + of(&all, "3", "fail"), 0);
        all.record(&told("fail"));
        assert_eq!((of(&all, "3", "fail"), of(&all, "3", "pass")), (1, 0));
        assert_eq!(of(&all, "6", "pass"), 1);
        all.record(&told("warn"));
        assert_eq!((of(&all, "3", "fail"), of(&all, "3", "warn")), (0, 1));
    }
}
