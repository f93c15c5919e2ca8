#![allow(clippy::unwrap_used)]
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// What is documented, each without its time.
pub(super) fn documented() -> Vec<Value> {
    let document = include_str!("../../../design/events.md");
    let examples = document.lines().filter(|line| line.starts_with('{'));
    let values = examples.map(|line| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        value.as_object_mut().unwrap().remove("ts").expect("every event has a time");
        value
    });
    values.collect()
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Paper {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What is logged meanwhile, as it looks on standard error.
pub(super) fn logged(json: bool, run: impl FnOnce()) -> String {
    let paper = Paper::default();
    let log = tracing_subscriber::fmt().with_writer(paper.clone()).with_ansi(false);
    match json {
        true => tracing::subscriber::with_default(log.event_format(format::Json).finish(), run),
        false => tracing::subscriber::with_default(log.event_format(format::Text).finish(), run),
    }
    String::from_utf8(paper.0.lock().unwrap().clone()).unwrap()
}

fn peer() -> PeerId {
    "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp".parse().unwrap()
}

fn examples() -> Vec<SessionEvent> {
    vec![
        SessionEvent::SessionReady {
            peer: peer(),
            network: "kaspa-mainnet".to_owned(),
            protocol_version: 11,
            user_agent: "/kaspad:2.1.0/kaspad:2.1.0/".to_owned(),
            path: NetPath::Direct,
        },
        SessionEvent::SessionEnded { peer: peer(), cause: "the peer closed the session".to_owned() },
        SessionEvent::HandshakeFailed { peer: peer(), reason: "wrong network".to_owned(), last: false },
        SessionEvent::DialFailed {
            peer: peer(),
            reason: Failure::Other("no answer within 10 s".to_owned()),
            retry_in_ms: Some(500),
        },
        SessionEvent::LoadDone {
            peer: peer(),
            bytes: 67_108_864,
            sha256: "c02c9eec62d9025b6fcee5c96e6951eae9f8f50b3f68cda336707fbae3f4c7c0".to_owned(),
            ms: 5145,
            path: NetPath::Direct,
        },
        SessionEvent::StreamTraffic {
            peer: peer(),
            stream: StreamId::from_bytes([0x5e; 16]),
            path: NetPath::Direct,
            sent_direct_bytes: 70_881_000,
            sent_relayed_bytes: 4_718_600,
            received_direct_bytes: 745,
            received_relayed_bytes: 395,
        },
        SessionEvent::SessionPinged { peer: peer(), pings: 812, unanswered: 0, slowest_ms: 14.2 },
    ]
}

fn position(event: &SessionEvent) -> usize {
    match event {
        SessionEvent::SessionReady { .. } => 0,
        SessionEvent::SessionEnded { .. } => 1,
        SessionEvent::HandshakeFailed { .. } => 2,
        SessionEvent::DialFailed { .. } => 3,
        SessionEvent::LoadDone { .. } => 4,
        SessionEvent::StreamTraffic { .. } => 5,
        SessionEvent::SessionPinged { .. } => 6,
    }
}

#[test]
fn every_event_of_ours_stands_in_the_document_as_it_is_written() {
    let documented = documented();
    for (at, event) in examples().iter().enumerate() {
        assert_eq!(position(event), at);
        let written = serde_json::to_value(event).unwrap();
        assert!(documented.contains(&written), "not in design/events.md: {written}");
    }
    for event in [
        ReportEvent::PageListening { address: ([127, 0, 0, 1], 9465).into() },
        ReportEvent::MetricsListening { address: ([127, 0, 0, 1], 9464).into() },
        ReportEvent::EventsLost { count: 1204 },
        ReportEvent::Suppressed { what: "access_refused", count: 1204, within_ms: 60_000 },
    ] {
        let written = serde_json::to_value(event).unwrap();
        assert!(documented.contains(&written), "not in design/events.md: {written}");
    }
}

#[test]
fn an_event_is_one_line_that_begins_with_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events");
    let reporter = Reporter::open(&path, None).unwrap();
    for event in examples() {
        reporter.report(event);
    }
    reporter.finish(SOON);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), examples().len());
    for line in text.lines() {
        let fields: Value = serde_json::from_str(line).unwrap();
        let time = fields["ts"].as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok());
        assert_eq!(time.len(), "2026-01-01T00:00:00.000000Z".len(), "microseconds: {time}");
        assert!(line.starts_with("{\"ts\":"), "{line}");
    }
}

const SOON: Duration = Duration::from_secs(10);

/// What 10,000 refused requests a second write in a minute: events and log, in bytes. And all the events.
fn flood(asker: impl Fn(usize) -> PeerId) -> (usize, Vec<Value>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events");
    let reporter = Reporter::open(&path, None).unwrap();
    let start = Instant::now();
    let log = logged(false, || {
        for request in 0..600_000 {
            let now = start + Duration::from_micros(100) * request;
            let (peer, service) = (asker(request as usize), "kaspad".parse().unwrap());
            let reason = "the peer is not on the allow list".to_owned();
            reporter.report_at(&GatewayEvent::AccessRefused { peer, service, reason }.into(), now);
            if request % 10_000 == 0 {
                reporter.sum_up_at(now);
            }
        }
        reporter.finish(SOON);
    });
    let text = std::fs::read_to_string(&path).unwrap();
    (log.len() + text.len(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn ten_thousand_refusals_a_second_for_a_minute_write_less_than_a_megabyte() {
    let crowd: Vec<PeerId> = (0..10_000).map(|_| PeerId::random()).collect();
    for askers in [&crowd[..1], &crowd[..]] {
        let (bytes, events) = flood(|request| askers[request % askers.len()]);
        assert!(bytes < 1_000_000, "{bytes} bytes for {} peers", askers.len());
        let suppressed =
            |event: &Value| event["count"].as_u64().filter(|_| event["event"] == "suppressed");
        let counted: u64 = events.iter().map(|event| suppressed(event).unwrap_or(1)).sum();
        assert_eq!(counted, 600_000, "none goes missing");
    }
}

#[test]
fn whoever_asks_is_told_the_latest_events_and_not_all() {
    let reporter = Reporter::none();
    let report = |number: usize| {
        let cause = number.to_string();
        reporter.report(SessionEvent::SessionEnded { peer: peer(), cause });
    };
    (0..recent::RECENT_MAX + 3).for_each(report);
    let (recent, mut live) = reporter.watch();
    assert_eq!(recent.len(), recent::RECENT_MAX);
    assert!(recent[0].contains(r#""cause":"3""#), "the oldest are forgotten: {}", recent[0]);
    report(1000);
    assert!(live.try_recv().unwrap().contains(r#""cause":"1000""#), "and what comes is told");
}

#[test]
fn the_ready_block_is_one_entry_and_is_waited_for() {
    let reporter = Reporter::none();
    let lines = vec!["this node is 12D3".to_owned(), "peers use: punchline forward".to_owned()];
    assert!(!*reporter.ready.borrow());
    let text = logged(false, || reporter.say_ready(&lines));
    assert!(*reporter.ready.borrow());
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("INFO  ready: this node is 12D3"), "{text}");
    assert_eq!(lines[1], "    peers use: punchline forward");
    assert_eq!(text.matches("ready:").count(), 1, "{text}");
}
