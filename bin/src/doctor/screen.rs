//! What the doctor says, for a person.

use std::fmt::Write as _;

use super::{
    diagnosis::{Check, Diagnosis, Verdict},
    findings::{Fault, Layer},
};
use crate::plain::{one_line, plain};

/// One line a check, and last what to expect.
pub(super) fn of(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for check in &diagnosis.checks {
        let _ = writeln!(text, "{:8} {:16} {}", check.verdict.name(), check.check, sentence(check));
    }
    let _ = writeln!(text, "expect: {}", diagnosis.expect.words());
    plain(&text)
}

/// Of which, what was found, and what to do.
pub(super) fn sentence(check: &Check) -> String {
    let subject = check.subject.as_ref().map(|subject| format!("{subject}: ")).unwrap_or_default();
    let layer = check.layer.map(|layer| format!("{} fails: ", layer.name())).unwrap_or_default();
    one_line(&format!("{subject}{layer}{}", joined(&check.found, check.advice.as_deref())))
}

/// In one sentence.
pub(super) fn joined(found: &str, advice: Option<&str>) -> String {
    advice.map_or_else(|| found.to_owned(), |advice| format!("{found}; {advice}"))
}

/// One line a layer that was come to.
pub(super) fn of_reach(passed: &[(Layer, String)], fault: Option<&Fault>) -> String {
    let mut text = String::new();
    let mut line = |verdict: Verdict, layer: Layer, found: &str| {
        let _ = writeln!(text, "{:8} {:10} {}", verdict.name(), layer.name(), one_line(found));
    };
    for (layer, seen) in passed {
        line(Verdict::Ok, *layer, seen);
    }
    if let Some(fault) = fault {
        let (found, advice) = fault.words();
        line(Verdict::Bad, fault.layer(), &joined(&found, advice));
    }
    plain(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::diagnosis::{Expectation, VERSION};

    #[test]
    fn each_check_is_a_line_with_its_advice_and_the_last_line_says_what_to_expect() {
        let check = Check {
            check: "relay",
            subject: Some("/ip4/192.0.2.1/tcp/1".to_owned()),
            verdict: Verdict::Bad,
            layer: Some(Layer::Tcp),
            found: "it refuses".to_owned(),
            advice: Some("start it".to_owned()),
        };
        let ok =
            Check { subject: None, verdict: Verdict::Ok, layer: None, advice: None, ..check.clone() };
        let expect = Expectation::Nobody;
        let diagnosis = Diagnosis {
            version: VERSION,
            punchline: "0",
            checks: vec![check, ok],
            bad: 1,
            warnings: 0,
            took_ms: 1,
            expect,
        };
        let lines: Vec<String> = of(&diagnosis).lines().map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "bad      relay            /ip4/192.0.2.1/tcp/1: TCP fails: it refuses; start it"
                    .to_owned(),
                "ok       relay            it refuses".to_owned(),
                format!("expect: {}", expect.words()),
            ]
        );
    }
}
