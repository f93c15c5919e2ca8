#![allow(clippy::unwrap_used)]
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::{
        Condvar,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A resolver that answers when it is opened.
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    asked: AtomicUsize,
}

impl Gate {
    const fn new() -> Self {
        Self { open: Mutex::new(false), opened: Condvar::new(), asked: AtomicUsize::new(0) }
    }

    fn answer(&self) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
        Ok(vec![V4, V4])
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

#[tokio::test]
async fn a_name_has_the_addresses_of_the_family_that_is_asked_for() {
    let names = Names::asking(|_| Ok(vec![V4, V6, V4]));
    assert_eq!(names.addresses("a.example", None).await.unwrap(), [V4, V6]);
    assert_eq!(names.addresses("a.example", Some(Family::V6)).await.unwrap(), [V6]);
    let only_v4 = Names::asking(|_| Ok(vec![V4]));
    let missing = only_v4.addresses("a.example", Some(Family::V6)).await.unwrap_err();
    assert_eq!(missing.to_string(), "the name a.example has no IPv6 address");
}

#[tokio::test]
async fn a_failure_names_the_name_the_servers_and_what_to_do() {
    let names = Names::asking(|_| Err(io::Error::other("nobody there")));
    let text = names.addresses("relay.example", None).await.unwrap_err().to_string();
    for hint in ["relay.example", "nobody there", "/etc/resolv.conf", "is the network up"] {
        assert!(text.contains(hint), "{hint}: {text}");
    }
}

#[test]
fn the_servers_are_those_of_the_file_and_an_empty_one_says_so() {
    let file =
        "# made by hand\nsearch example\nnameserver 192.0.2.53\nnameserver\nnameserver 2001:db8::53\n";
    assert_eq!(
        Servers::of(file).to_string(),
        "asked 192.0.2.53, 2001:db8::53, as /etc/resolv.conf says"
    );
    assert_eq!(Servers::of("").to_string(), "/etc/resolv.conf names no server");
}

#[tokio::test]
async fn lookups_of_one_name_share_a_thread() {
    static GATE: Gate = Gate::new();
    let names = Names::asking(|_| GATE.answer());
    let lookups: Vec<_> = (0..LOOKUPS_MAX + 1).map(|_| names.lookup("a.example").unwrap()).collect();
    GATE.open();
    for lookup in lookups {
        assert_eq!(&*lookup.await.unwrap(), [V4]);
    }
    assert_eq!(GATE.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn one_name_more_than_the_limit_is_refused_until_one_is_answered() {
    static GATE: Gate = Gate::new();
    let names = Names::asking(|_| GATE.answer());
    let lookups: Vec<_> =
        (0..LOOKUPS_MAX).map(|n| names.lookup(&format!("{n}.example")).unwrap()).collect();
    let refused = names.addresses("one-more.example", None).await.unwrap_err();
    assert_eq!(refused, NameError::Busy { name: "one-more.example".to_owned(), limit: LOOKUPS_MAX });
    GATE.open();
    futures::future::join_all(lookups).await;
    assert_eq!(names.addresses("one-more.example", None).await.unwrap(), [V4]);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_nobody_answers_ends_at_its_deadline_and_the_next_one_begins_anew() {
    static GATE: Gate = Gate::new();
    let names = Names::asking(|_| GATE.answer());
    for asked in 1..=2 {
        let lookup = tokio::spawn({
            let names = names.clone();
            async move { names.addresses("a.example", None).await }
        });
        tokio::task::yield_now().await;
        // While a thread is blocked, time does not go on by itself.
        tokio::time::advance(LOOKUP_DEADLINE + Duration::from_millis(1)).await;
        assert!(matches!(lookup.await.unwrap(), Err(NameError::Deadline { .. })));
        assert_eq!(names.under_way.lock().unwrap().len(), asked);
    }
    GATE.open();
    while names.under_way.lock().unwrap().iter().any(|lookup| !lookup.thread.is_finished()) {
        tokio::task::yield_now().await;
    }
    // What nobody waited for any more is forgotten.
    assert_eq!(names.addresses("a.example", None).await.unwrap(), [V4]);
    assert_eq!(names.under_way.lock().unwrap().len(), 1);
}
