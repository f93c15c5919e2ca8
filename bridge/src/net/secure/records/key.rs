//! The key of one direction.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use futures_rustls::rustls::{self, ConnectionTrafficSecrets};

use super::{HEAD_BYTES, Head, Kind, RecordError, TAG_BYTES};

/// Bytes of a nonce.
const NONCE_BYTES: usize = 12;

/// Encrypts or decrypts records, each with a nonce of its own.
pub(super) struct Key {
    key: LessSafeKey,
    iv: [u8; NONCE_BYTES],
    /// Of the next record.
    sequence: u64,
}

impl Key {
    /// Fails if rustls agreed on a cipher that nobody proposed.
    pub(super) fn new(
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, rustls::Error> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(rustls::Error::General("a cipher that nobody proposed".into())),
        };
        let of_length = |_| rustls::Error::General("a key of the wrong length".into());
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(of_length)?;
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(iv.as_ref());
        Ok(Self { key: LessSafeKey::new(key), iv: nonce, sequence })
    }

    /// Records so far.
    pub(super) fn used(&self) -> u64 {
        self.sequence
    }

    /// No nonce is used twice: the last sequence number is never reached.
    fn nonce(&mut self) -> Result<Nonce, RecordError> {
        let sequence = self.sequence;
        self.sequence = sequence.checked_add(1).ok_or(RecordError::Exhausted)?;
        let mut nonce = self.iv;
        for (place, byte) in nonce[NONCE_BYTES - 8..].iter_mut().zip(sequence.to_be_bytes()) {
            *place ^= byte;
        }
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Encrypts what is in `record` after the room for its head. Behind it is room for the code of its kind and for the tag.
    pub(super) fn seal_in_place(&mut self, kind: u8, record: &mut [u8]) -> Result<(), RecordError> {
        let (head, body) = head_of(record);
        let (data, end) = body.split_at_mut(body.len() - 1 - TAG_BYTES);
        let nonce = self.nonce()?;
        let sealed = self.key.seal_in_place_scatter(nonce, Aad::from(head), data, &[kind], end);
        sealed.map_err(|_| RecordError::Sealing)
    }

    /// Encrypts `data` into `record`, which is as long as the record becomes.
    pub(super) fn seal(&mut self, kind: u8, data: &[u8], record: &mut [u8]) -> Result<(), RecordError> {
        let (head, body) = head_of(record);
        let (into, end) = body.split_at_mut(data.len());
        let nonce = self.nonce()?;
        let sealed =
            self.key.seal_out_of_place_scatter(nonce, Aad::from(head), data, into, &[kind], end);
        sealed.map_err(|_| RecordError::Sealing)
    }

    /// Decrypts where it is. Returns data, kind and padding.
    pub(super) fn open_in_place<'a>(
        &mut self,
        head: Head,
        body: &'a mut [u8],
    ) -> Result<&'a mut [u8], RecordError> {
        let nonce = self.nonce()?;
        self.key.open_in_place(nonce, Aad::from(head), body).map_err(|_| RecordError::Changed)
    }

    /// Decrypts into `out`, which is as long as data, kind and padding.
    pub(super) fn open(&mut self, head: Head, body: &[u8], out: &mut [u8]) -> Result<(), RecordError> {
        let (nonce, (data, tag)) = (self.nonce()?, body.split_at(out.len()));
        let opened = self.key.open_separate_gather(nonce, Aad::from(head), data, tag, out);
        opened.map_err(|_| RecordError::Changed)
    }
}

/// Writes a record's head, as long as the record is, and returns it with the rest.
fn head_of(record: &mut [u8]) -> (Head, &mut [u8]) {
    let bytes = u16::try_from(record.len() - HEAD_BYTES).unwrap_or(u16::MAX).to_be_bytes();
    let head = [Kind::Data.code(), 3, 3, bytes[0], bytes[1]];
    let (place, body) = record.split_at_mut(HEAD_BYTES);
    place.copy_from_slice(&head);
    (head, body)
}
