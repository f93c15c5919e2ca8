//! What a relay carries, as libp2p's own counters have it.

use libp2p::metrics::Registry;
use prometheus_client::encoding::text::encode;

/// Payload bytes since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
}

/// libp2p counts into a registry and lets nobody read the counters but through its text form.
#[derive(Default)]
pub(crate) struct Traffic {
    registry: Registry,
    last: Carried,
}

impl Traffic {
    pub(crate) fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    pub(crate) fn now(&self) -> Carried {
        let mut text = String::new();
        // Written to memory, which does not fail.
        let _ = encode(&mut text, &self.registry);
        read(&text)
    }

    /// The counts, if they have changed since the last call.
    pub(crate) fn grown(&mut self) -> Option<Carried> {
        let now = self.now();
        let grown = now != self.last;
        self.last = now;
        grown.then_some(now)
    }
}

fn read(text: &str) -> Carried {
    let mut carried = Carried::default();
    for line in text.lines().filter(|line| line.starts_with("libp2p_bandwidth_bytes_total")) {
        let count = line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
        if line.contains("Inbound") {
            carried.received_bytes += count;
        } else {
            carried.sent_bytes += count;
        }
    }
    carried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_all_transports_are_added_up_by_direction() {
        let text = "# TYPE libp2p_bandwidth_bytes counter\n\
            libp2p_bandwidth_bytes_total{protocols=\"/ip4/tcp\",direction=\"Inbound\"} 5\n\
            libp2p_bandwidth_bytes_total{protocols=\"/ip4/udp/quic-v1\",direction=\"Inbound\"} 7\n\
            libp2p_bandwidth_bytes_total{protocols=\"/ip4/tcp\",direction=\"Outbound\"} 11\n\
            other_total{direction=\"Inbound\"} 100\n# EOF\n";
        assert_eq!(read(text), Carried { received_bytes: 12, sent_bytes: 11 });
    }
}
