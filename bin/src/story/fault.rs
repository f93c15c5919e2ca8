//! What may be in the way between two peers, one word each.

/// A variant for each word, with what it means; what tells more stands first.
macro_rules! faults {
    ($($fault:ident $word:literal $meaning:literal,)*) => {
        /// What is in the way. The order is that of findings: what tells more comes first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fault {
            $(#[doc = $meaning] $fault,)*
        }

        impl Fault {
            /// The word for programs.
            pub(crate) fn word(self) -> &'static str {
                match self { $(Self::$fault => $word,)* }
            }

            /// Each word with what it means.
            #[cfg(test)]
            pub(super) const ALL: &[(&str, &str)] = &[$(($word, $meaning),)*];
        }
    };
}

faults! {
    NotServedThere "not_served_there" "the peer does not serve it, or not to this node",
    TargetDownThere "target_down_there" "the program behind the peer's service is not reached",
    TicketVoid "ticket_void" "our ticket has expired, was used or was revoked",
    BusyThere "busy_there" "the peer has no room, or is about to end",
    RefusedHere "refused_here" "this node does not let the peer in",
    NotServedHere "not_served_here" "this node serves nothing of that name",
    TargetDownHere "target_down_here" "the program behind our service is not reached",
    HandshakeFailed "handshake_failed" "the session on the stream did not come about",
    RelaysOff "relays_off" "this node is not to use relays",
    WrongRelay "wrong_relay" "somebody else than the relay answers at its address",
    RelayDown "relay_down" "the relay is not reached",
    RelaySilent "relay_silent" "the relay does not answer",
    NotARelay "not_a_relay" "what answers at the relay's address is none",
    RelayFull "relay_full" "a limit of the relay is reached",
    RelayRefuses "relay_refuses" "the relay does not serve this node",
    PeerOffline "peer_offline" "the peer is not at the relay",
    WrongPeer "wrong_peer" "somebody else than the peer answers at its address",
    NotAllowed "not_allowed" "the peer's addresses may not be dialled",
    NotPunchline "not_punchline" "the peer answers, and does not speak our protocol",
    DirectOnly "direct_only" "streams are not to go through relays",
    LimitHere "limit_here" "a limit of this node is reached",
    CircuitSilent "circuit_silent" "the relay, or the peer behind it, does not answer",
    Unreachable "unreachable" "no way leads to the peer",
    NoAddress "no_address" "nobody told this node where the peer is",
    Lost "lost" "the last connection ended, and there is no other yet",
    NotTried "not_tried" "nobody asked this node to reach the peer",
    UdpBlocked "udp_blocked" "this network lets no UDP through",
    TcpBlocked "tcp_blocked" "this network lets no TCP through but to the web's port",
    WebOnly "web_only" "this network lets nothing through but what looks like the web",
    SymmetricBoth "symmetric_both" "both NATs change ports for each destination",
    SymmetricHere "symmetric_here" "our NAT changes ports, and the peer's lets nobody in from another",
    SymmetricThere "symmetric_there" "the peer's NAT changes ports, and ours lets nobody in from another",
    NothingInCommon "nothing_in_common" "the two are seen over no transport in common",
    NoCandidateHere "no_candidate_here" "no relay tells this node a public address",
    NoCandidateThere "no_candidate_there" "the peer names no address",
    PunchFailed "punch_failed" "no dial to the other end went through",
    NoPunching "no_punching" "the two cannot agree on a hole punch",
    GaveUpThere "gave_up_there" "the peer, which begins the punches, gave up",
    TooEarly "too_early" "no attempt at a direct path is over yet",
    ClockDiffers "clock_differs" "this clock and a relay's differ",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_stands_in_the_document_with_its_meaning() {
        let document = include_str!("../../proto/node.proto");
        for (word, meaning) in Fault::ALL {
            let line = format!("  // - {word}: {meaning}\n");
            assert!(document.contains(&line), "not in node.proto:\n{line}");
        }
    }
}
