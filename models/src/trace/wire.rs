//! The wire format of protobuf: fields of a message without a schema, nothing copied.
//!
//! You are here: `models::trace::wire`. `otlp_proto` reads messages with it, `detect` looks at first bytes.
//! Always true: no length is believed before it is checked; what is not looked at costs no more than its tag.
//! Not here: what fields mean. Source: protobuf.dev/programming-guides/encoding.

/// A varint at the start of `bytes`, and how many bytes it takes.
#[inline]
pub(crate) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        return Some((u64::from(first), 1));
    }
    let mut number = u64::from(first & 0x7f);
    for (index, &byte) in rest.iter().enumerate().take(9) {
        if index == 8 && byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << (7 * (index + 1));
        if byte < 0x80 {
            return Some((number, index + 2));
        }
    }
    None
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wire<'a> {
    /// A varint.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32,
    /// Text, bytes, or a message.
    Bytes(&'a [u8]),
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    pub(crate) value: Wire<'a>,
    /// Where the value stands in the input; for text, bytes and messages behind their length.
    pub(crate) at: u64,
    /// Whether the message holds the whole value.
    pub(crate) complete: bool,
}

/// Walks over the fields of a message. An error is the position of bytes that are no field; it is the last item.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    at: u64,
}

impl<'a> Fields<'a> {
    /// The fields of `message`, which stands at `first` in the input.
    pub(crate) fn of(message: &'a [u8], first: u64) -> Self {
        Fields { rest: message, at: first }
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let (number, length) = varint(self.rest)?;
        self.take(length);
        Some(number)
    }

    #[inline]
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.at += length as u64;
        taken
    }

    #[inline]
    fn field(&mut self) -> Option<Field<'a>> {
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 {
            return None;
        }
        let kind = tag & 7;
        let length = match kind {
            0 => {
                let at = self.at;
                return Some(Field { number, value: Wire::Varint(self.varint()?), at, complete: true });
            }
            1 => 8,
            2 => self.varint()?,
            5 => 4,
            _ => return None,
        };
        let at = self.at;
        let complete = length <= self.rest.len() as u64;
        let payload = self.take(if complete { length as usize } else { self.rest.len() });
        let value = match kind {
            1 => Wire::Fixed64(payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))),
            5 => Wire::Fixed32,
            _ => Wire::Bytes(payload),
        };
        Some(Field { number, value, at, complete })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, u64>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let at = self.at;
        let field = self.field().ok_or(at);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}
