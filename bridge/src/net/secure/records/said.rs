//! What an end says about the connection itself. See RFC 8446, sections 4.6 and 6.

use futures_rustls::rustls::AlertDescription;

use super::{Kind, RecordError};

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// A message that says: what comes from now on is encrypted with the next key. The other end's key is not asked for.
pub(super) const OUR_KEY_UPDATE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

/// A warning that says: nothing more comes.
pub(super) const OUR_END: [u8; 2] = [1, 0];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing that matters here.
    Nothing,
    /// What comes is encrypted with the next key; the peer may want that of us, too.
    NextKey { ours_too: bool },
    /// Nothing more comes.
    End,
}

pub(super) fn said(kind: Kind, content: &[u8]) -> Result<Said, RecordError> {
    match (kind, content) {
        (Kind::Data, _) => Ok(Said::Nothing),
        (Kind::Alert, &[_, code]) => match AlertDescription::from(code) {
            AlertDescription::CloseNotify => Ok(Said::End),
            AlertDescription::UserCanceled => Ok(Said::Nothing),
            alert => Err(RecordError::Alert(alert)),
        },
        // A message that asks for new keys ends with its record.
        (Kind::Handshake, &[KEY_UPDATE, 0, 0, 1, wanted @ 0..=1]) => {
            Ok(Said::NextKey { ours_too: wanted == 1 })
        }
        (Kind::Handshake, messages) => tickets(messages),
        (Kind::Alert, _) => Err(RecordError::Unexpected(Kind::Alert.code())),
    }
}

/// Nobody of us comes back with a ticket, but other libraries hand them out.
fn tickets(mut messages: &[u8]) -> Result<Said, RecordError> {
    while let &[NEW_SESSION_TICKET, a, b, c, ref rest @ ..] = messages
        && let Some(next) = rest.get(u32::from_be_bytes([0, a, b, c]) as usize..)
    {
        if next.is_empty() {
            return Ok(Said::Nothing);
        }
        messages = next;
    }
    Err(RecordError::Unexpected(Kind::Handshake.code()))
}
