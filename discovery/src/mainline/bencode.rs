//! Bencode (BEP 3), as far as packets need it: read within bounds, written in the order that it must have.

/// Levels of lists and dictionaries within each other; a packet of the protocol has four.
const DEPTH_MAX: usize = 6;

/// Of what was read, borrowed from the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(i64),
    Bytes(&'a [u8]),
    List(Vec<Value<'a>>),
    Dictionary(Dictionary<'a>),
}

/// Its keys, each with what it holds and how that was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dictionary<'a>(Vec<(&'a [u8], Value<'a>, &'a [u8])>);

impl<'a> Dictionary<'a> {
    pub(super) fn value(&self, key: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(name, ..)| *name == key.as_bytes()).map(|(_, value, _)| value)
    }

    /// How it was written.
    pub(super) fn written(&self, key: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(name, ..)| *name == key.as_bytes()).map(|(_, _, written)| *written)
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> Vec<&'a [u8]> {
        self.0.iter().map(|(key, ..)| *key).collect()
    }

    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = &Value<'a>> {
        self.0.iter().map(|(_, value, _)| value)
    }

    pub(super) fn bytes(&self, key: &str) -> Option<&'a [u8]> {
        match self.value(key)? {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn number(&self, key: &str) -> Option<i64> {
        match self.value(key)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn dictionary(&self, key: &str) -> Option<&Dictionary<'a>> {
        match self.value(key)? {
            Value::Dictionary(dictionary) => Some(dictionary),
            _ => None,
        }
    }

    pub(super) fn list(&self, key: &str) -> Option<&[Value<'a>]> {
        match self.value(key)? {
            Value::List(list) => Some(list),
            _ => None,
        }
    }
}

/// The dictionary that is all of a packet. None if it is not one, or not whole, or more follows.
pub(super) fn read(packet: &[u8]) -> Option<Dictionary<'_>> {
    match read_value(packet)? {
        Value::Dictionary(dictionary) => Some(dictionary),
        _ => None,
    }
}

/// The value that is all of these bytes.
pub(super) fn read_value(bytes: &[u8]) -> Option<Value<'_>> {
    let mut reader = Reader { rest: bytes };
    let value = reader.value(DEPTH_MAX)?;
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        match self.rest.first()? {
            b'i' => {
                self.take(1)?;
                self.number(b'e').map(Value::Number)
            }
            b'0'..=b'9' => self.bytes().map(Value::Bytes),
            b'l' => {
                self.take(1)?;
                let mut list = Vec::new();
                while !self.ends()? {
                    list.push(self.value(depth.checked_sub(1)?)?);
                }
                Some(Value::List(list))
            }
            b'd' => {
                self.take(1)?;
                let mut entries = Vec::new();
                while !self.ends()? {
                    let key = self.bytes()?;
                    let from = self.rest;
                    let value = self.value(depth.checked_sub(1)?)?;
                    let written = &from[..from.len() - self.rest.len()];
                    entries.push((key, value, written));
                }
                Some(Value::Dictionary(Dictionary(entries)))
            }
            _ => None,
        }
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number(b':')?;
        self.take(usize::try_from(length).ok()?)
    }

    /// A number up to this sign, which is taken as well.
    fn number(&mut self, end: u8) -> Option<i64> {
        // As long as the longest number of 64 bits.
        const DIGITS_MAX: usize = 20;
        let length = self.rest.iter().take(DIGITS_MAX + 1).position(|byte| *byte == end)?;
        let digits = std::str::from_utf8(self.take(length)?).ok()?;
        self.take(1)?;
        if digits.starts_with('+') {
            return None;
        }
        digits.parse().ok()
    }

    /// Whether a list or dictionary ends here; then its end is taken.
    fn ends(&mut self) -> Option<bool> {
        let ends = *self.rest.first()? == b'e';
        if ends {
            self.take(1)?;
        }
        Some(ends)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

/// Writes a dictionary. Keys have to come in order.
#[derive(Debug)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new() -> Self {
        Self(b"d".to_vec())
    }

    pub(super) fn bytes(mut self, key: &str, value: &[u8]) -> Self {
        write_bytes(&mut self.0, key.as_bytes());
        write_bytes(&mut self.0, value);
        self
    }

    pub(super) fn number(mut self, key: &str, value: i64) -> Self {
        write_bytes(&mut self.0, key.as_bytes());
        self.0.extend_from_slice(format!("i{value}e").as_bytes());
        self
    }

    /// What is written already.
    pub(super) fn written(mut self, key: &str, value: &[u8]) -> Self {
        write_bytes(&mut self.0, key.as_bytes());
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.push(b'e');
        self.0
    }
}

/// Appends a string of bytes.
pub(super) fn write_bytes(to: &mut Vec<u8>, value: &[u8]) {
    to.extend_from_slice(format!("{}:", value.len()).as_bytes());
    to.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_and_how_it_was_written_is_known() {
        let inner = Writer::new().bytes("id", b"me").number("seq", -7).finish();
        let whole = Writer::new().written("a", &inner).bytes("y", b"q").finish();
        let read = read(&whole).unwrap();
        assert_eq!(read.written("a"), Some(&inner[..]));
        let inner = read.dictionary("a").unwrap();
        assert_eq!((inner.bytes("id"), inner.number("seq")), (Some(&b"me"[..]), Some(-7)));
        assert_eq!((inner.bytes("seq"), inner.number("none")), (None, None));
    }

    #[test]
    fn what_is_cut_off_nested_without_end_or_followed_by_more_is_refused() {
        let whole = b"d1:ad2:id4:abcde1:qli1ei2eee";
        assert!(read(whole).is_some());
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), None, "cut after {length} bytes");
        }
        assert_eq!(read(b"de1"), None);
        assert_eq!(read(b"li1ee"), None);
        for wrong in [
            "d1:a",
            "di1e1:ae",
            "d1:ai+1ee",
            "d1:aiee",
            "d1:ai99999999999999999999ee",
            "d99:ae",
            "d-1:ae",
        ] {
            assert_eq!(read(wrong.as_bytes()), None, "{wrong}");
        }
        let nested = |depth: usize| [b"d1:a".repeat(depth), b"de".to_vec(), b"e".repeat(depth)].concat();
        assert!(read(&nested(DEPTH_MAX)).is_some());
        assert_eq!(read(&nested(DEPTH_MAX + 1)), None);
        assert_eq!(read(&b"l".repeat(2000)), None);
    }
}
