//! What a relay's messages mean. Pure.

use std::{io, time::Duration};

use libp2p::PeerId;

use super::wire::{Hop, HopKind, Limit, LimitOwner as WireOwner, Refusal, Status, Stop, StopKind};
use crate::{
    engine::input::{CircuitLimit, Grant},
    error::{
        CircuitFault, CircuitRefusal, DialFailureReason, LimitOwner, Malformed, RelayLimit,
        ReserveFailure,
    },
};

/// The answer to RESERVE.
pub(super) fn reserved(answer: &Hop) -> Result<Grant, ReserveFailure> {
    let refused = match status(answer).map_err(ReserveFailure::Malformed)? {
        Status::Ok => return granted(answer).map_err(ReserveFailure::Malformed),
        Status::ResourceLimitExceeded => ReserveFailure::Full(relay_limit(answer.refusal)),
        Status::ReservationRefused => match answer.refusal {
            Some(_) => ReserveFailure::Full(relay_limit(answer.refusal)),
            None => ReserveFailure::Refused,
        },
        Status::PermissionDenied => ReserveFailure::Denied,
        other => ReserveFailure::Malformed(Malformed::Status { status: Some(other.into()) }),
    };
    Err(refused)
}

fn granted(answer: &Hop) -> Result<Grant, Malformed> {
    let reservation = answer.reservation.as_ref().ok_or(Malformed::Reservation)?;
    Ok(Grant {
        expire: reservation.expire,
        lasts: reservation.seconds.map(Duration::from_secs),
        limit: circuit_limit(answer.limit),
    })
}

/// The answer to CONNECT: what the circuit may carry.
pub(super) fn connected(answer: &Hop) -> Result<CircuitLimit, DialFailureReason> {
    let malformed = |what| DialFailureReason::CircuitRefused { reason: CircuitRefusal::Malformed(what) };
    let refused = match status(answer).map_err(malformed)? {
        Status::Ok => return Ok(circuit_limit(answer.limit)),
        Status::NoReservation => DialFailureReason::NoReservation,
        Status::ResourceLimitExceeded => DialFailureReason::RelayFull(relay_limit(answer.refusal)),
        Status::PermissionDenied => DialFailureReason::CircuitRefused { reason: CircuitRefusal::Denied },
        Status::ConnectionFailed => {
            DialFailureReason::CircuitFailed { reason: CircuitFault::PeerUnreachable }
        }
        other => malformed(Malformed::Status { status: Some(other.into()) }),
    };
    Err(refused)
}

fn status(answer: &Hop) -> Result<Status, Malformed> {
    if answer.kind != i32::from(HopKind::Status) {
        return Err(Malformed::Kind);
    }
    let unknown = Malformed::Status { status: answer.status };
    answer.status.and_then(|status| Status::try_from(status).ok()).ok_or(unknown)
}

fn relay_limit(refusal: Option<Refusal>) -> RelayLimit {
    let Some(refusal) = refusal else { return RelayLimit::UNKNOWN };
    let owner = match refusal.owner() {
        WireOwner::Unknown => LimitOwner::Unknown,
        WireOwner::Relay => LimitOwner::Relay,
        WireOwner::Address => LimitOwner::Address,
        WireOwner::Peer => LimitOwner::Peer,
        WireOwner::Destination => LimitOwner::Destination,
    };
    let known = |count: u64| Some(count).filter(|count| *count > 0);
    RelayLimit {
        owner,
        limit: known(refusal.limit),
        retry_after: known(refusal.retry_after_ms).map(Duration::from_millis),
    }
}

/// By the specification, what is absent or 0 is not limited.
fn circuit_limit(limit: Option<Limit>) -> CircuitLimit {
    let Some(limit) = limit else { return CircuitLimit::default() };
    CircuitLimit {
        bytes: limit.data.filter(|bytes| *bytes > 0),
        duration: limit
            .duration
            .filter(|seconds| *seconds > 0)
            .map(|seconds| Duration::from_secs(seconds.into())),
    }
}

/// Who asks for a circuit to us, and what it may carry; or the status that the relay is told instead.
pub(super) fn offered(message: &Stop) -> Result<(PeerId, CircuitLimit), Status> {
    if message.kind != i32::from(StopKind::Connect) {
        return Err(Status::UnexpectedMessage);
    }
    let peer = message.peer.as_ref().ok_or(Status::MalformedMessage)?;
    let peer = PeerId::from_bytes(&peer.id).map_err(|_| Status::MalformedMessage)?;
    Ok((peer, circuit_limit(message.limit)))
}

/// Whether an answer was no message, rather than that none came.
pub(super) fn is_malformed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::wire::{Peer, Reservation},
        *,
    };

    fn answer(status: Status) -> Hop {
        Hop { kind: HopKind::Status.into(), status: Some(status.into()), ..Hop::default() }
    }

    fn refusal() -> Refusal {
        Refusal { owner: WireOwner::Address.into(), limit: 60, retry_after_ms: 30_000 }
    }

    const LIMIT: RelayLimit = RelayLimit {
        owner: LimitOwner::Address,
        limit: Some(60),
        retry_after: Some(Duration::from_secs(30)),
    };

    #[test]
    fn a_grant_with_and_without_a_duration_is_read() {
        for seconds in [None, Some(3600)] {
            let reservation = Some(Reservation { expire: 7, seconds, ..Reservation::default() });
            let limit = Some(Limit { duration: Some(120), data: Some(1 << 17) });
            let grant = reserved(&Hop { reservation, limit, ..answer(Status::Ok) }).unwrap();
            let limit = CircuitLimit { bytes: Some(1 << 17), duration: Some(Duration::from_secs(120)) };
            assert_eq!(grant, Grant { expire: 7, lasts: seconds.map(Duration::from_secs), limit });
        }
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let limit = Some(Limit { duration: Some(0), data: Some(0) });
        assert_eq!(connected(&Hop { limit, ..answer(Status::Ok) }), Ok(CircuitLimit::default()));
        assert_eq!(connected(&answer(Status::Ok)), Ok(CircuitLimit::default()));
    }

    #[test]
    fn a_refusal_says_whose_limit_it_is_and_when_to_come_again_if_the_relay_does() {
        let full = answer(Status::ResourceLimitExceeded);
        let ours = Hop { refusal: Some(refusal()), ..full.clone() };
        assert_eq!(connected(&ours), Err(DialFailureReason::RelayFull(LIMIT)));
        assert_eq!(connected(&full), Err(DialFailureReason::RelayFull(RelayLimit::UNKNOWN)));
        assert_eq!(reserved(&ours), Err(ReserveFailure::Full(LIMIT)));
        assert_eq!(reserved(&full), Err(ReserveFailure::Full(RelayLimit::UNKNOWN)));
        let refused = answer(Status::ReservationRefused);
        assert_eq!(reserved(&refused), Err(ReserveFailure::Refused));
        let ours = Hop { refusal: Some(refusal()), ..refused };
        assert_eq!(reserved(&ours), Err(ReserveFailure::Full(LIMIT)));
    }

    #[test]
    fn each_status_is_told_apart() {
        use DialFailureReason::{CircuitFailed, CircuitRefused, NoReservation};
        let status = |status| CircuitRefusal::Malformed(Malformed::Status { status: Some(status) });
        for (given, reason) in [
            (Status::NoReservation, NoReservation),
            (Status::PermissionDenied, CircuitRefused { reason: CircuitRefusal::Denied }),
            (Status::ConnectionFailed, CircuitFailed { reason: CircuitFault::PeerUnreachable }),
            (Status::MalformedMessage, CircuitRefused { reason: status(400) }),
        ] {
            assert_eq!(connected(&answer(given)), Err(reason));
        }
    }

    #[test]
    fn an_answer_without_sense_is_malformed() {
        let kind = Hop { kind: HopKind::Reserve.into(), ..answer(Status::Ok) };
        let none = Hop { status: None, ..answer(Status::Ok) };
        let unknown = Hop { status: Some(7), ..answer(Status::Ok) };
        for (given, what) in [
            (kind, Malformed::Kind),
            (none, Malformed::Status { status: None }),
            (unknown, Malformed::Status { status: Some(7) }),
            (answer(Status::Ok), Malformed::Reservation),
        ] {
            assert_eq!(reserved(&given), Err(ReserveFailure::Malformed(what)));
        }
    }

    #[test]
    fn an_offer_names_a_peer_or_is_told_what_is_wrong() {
        let peer = PeerId::random();
        let named = |id| Some(Peer { id, addrs: Vec::new() });
        let offer =
            Stop { kind: StopKind::Connect.into(), peer: named(peer.to_bytes()), ..Stop::default() };
        assert_eq!(offered(&offer), Ok((peer, CircuitLimit::default())));
        let nobody = Stop { peer: None, ..offer.clone() };
        assert_eq!(offered(&nobody), Err(Status::MalformedMessage));
        let garbage = Stop { peer: named(vec![1, 2, 3]), ..offer.clone() };
        assert_eq!(offered(&garbage), Err(Status::MalformedMessage));
        let status = Stop { kind: StopKind::Status.into(), ..offer };
        assert_eq!(offered(&status), Err(Status::UnexpectedMessage));
    }
}
