//! OTLP JSON as exporters write it, read in one pass without a tree.
//!
//! You are here: `models::trace::otlp_fast`. `json_lines` tries it on every line, `otlp_json` on every element of `resourceSpans`.
//! Always true: it takes a text whole or not at all. Whatever is unusual (another spelling of a key, a null, an id that is none, a
//! comma too many) makes it give up before anything is pushed, and `otlp_json` decides. A test holds that both agree.
//! Not here: what is tolerated beyond the specification, and what is said of broken records (`otlp_json`).

use std::borrow::Cow;
use std::ops::Range;

use super::Kind;
use super::Span;
use super::attributes::{Facts, RecorderFacts, StatusCode, Value, kind_named, kind_number};
use super::inbox::{Inbox, LATEST_NS, Stop};
use super::read::Format;

/// Values that nothing is learned from may be nested so deep.
const DEEPEST: u32 = 32;

/// Reads a whole document, `{"resourceSpans":[…]}` with white space around; `None`: not one, or an unusual one.
pub(crate) fn document(text: &[u8], inbox: &mut Inbox<'_>) -> Option<Result<(), Stop>> {
    let mut cursor = Cursor::of(text)?;
    let mut found = Found::default();
    cursor.white_space();
    cursor.take(b'{')?;
    if cursor.key()? != "resourceSpans" {
        return None;
    }
    cursor.list(|cursor| found.resource_spans(cursor, inbox))?;
    cursor.take(b'}')?;
    cursor.end()?;
    inbox.recognised(Format::OtlpJson);
    Some(found.push_all(inbox))
}

/// Reads one element of `resourceSpans`; `None`: an unusual one.
pub(crate) fn element(text: &[u8], inbox: &mut Inbox<'_>) -> Option<Result<(), Stop>> {
    let mut cursor = Cursor::of(text)?;
    let mut found = Found::default();
    found.resource_spans(&mut cursor, inbox)?;
    cursor.end()?;
    Some(found.push_all(inbox))
}

type Attribute<'a> = (Cow<'a, str>, Value<'a>);

/// What a text holds, before anything of it is pushed.
#[derive(Default)]
struct Found<'a> {
    resources: Vec<Resource>,
    scopes: Vec<(Cow<'a, str>, Range<usize>)>,
    spans: Vec<Raw<'a>>,
    attributes: Vec<Attribute<'a>>,
    links: Vec<(u128, u64)>,
}

struct Resource {
    attributes: Range<usize>,
    scopes: Range<usize>,
}

#[derive(Default)]
struct Raw<'a> {
    trace_id: u128,
    span_id: u64,
    parent_id: Option<u64>,
    trace_state: Cow<'a, str>,
    name: Cow<'a, str>,
    kind: Kind,
    start: u64,
    end: u64,
    /// Its own, then those of its exceptions.
    attributes: Range<usize>,
    links: Range<usize>,
    status: StatusCode,
    message: Option<Cow<'a, str>>,
    kept: bool,
}

impl<'a> Found<'a> {
    fn resource_spans(&mut self, cursor: &mut Cursor<'a>, inbox: &Inbox<'_>) -> Option<()> {
        let (mut attributes, first_scope) = (0..0, self.scopes.len());
        let mut once = Once::default();
        cursor.object(|cursor, key| match key {
            "resource" => {
                once.first(0)?;
                let mut once = Once::default();
                cursor.object(|cursor, key| match key {
                    "attributes" => {
                        once.first(0)?;
                        attributes = self.attributes(cursor)?;
                        Some(())
                    }
                    _ => cursor.skip(key),
                })
            }
            "scopeSpans" => {
                once.first(1)?;
                cursor.list(|cursor| self.scope_spans(cursor, inbox))
            }
            _ => cursor.skip(key),
        })?;
        self.resources.push(Resource { attributes, scopes: first_scope..self.scopes.len() });
        Some(())
    }

    fn scope_spans(&mut self, cursor: &mut Cursor<'a>, inbox: &Inbox<'_>) -> Option<()> {
        let (mut name, first) = (Cow::default(), self.spans.len());
        let mut once = Once::default();
        cursor.object(|cursor, key| match key {
            "scope" => {
                once.first(0)?;
                let mut once = Once::default();
                cursor.object(|cursor, key| match key {
                    "name" => {
                        once.first(0)?;
                        name = cursor.text()?;
                        Some(())
                    }
                    _ => cursor.skip(key),
                })
            }
            "spans" => {
                once.first(1)?;
                cursor.list(|cursor| self.span(cursor, inbox))
            }
            _ => cursor.skip(key),
        })?;
        self.scopes.push((name, first..self.spans.len()));
        Some(())
    }

    fn span(&mut self, cursor: &mut Cursor<'a>, inbox: &Inbox<'_>) -> Option<()> {
        let mut raw = Raw { kept: true, ..Raw::default() };
        let mut once = Once::default();
        // Attributes of exceptions come after the span's own, wherever the text has them.
        let mut of_exceptions: Vec<Attribute<'a>> = Vec::new();
        cursor.object(|cursor, key| {
            match key {
                "traceId" => {
                    once.first(0)?;
                    raw.trace_id = cursor.plain_text()?.parse_hex::<32>()?;
                    raw.kept = inbox.keeps(raw.trace_id);
                }
                "spanId" => {
                    once.first(1)?;
                    raw.span_id = cursor.plain_text()?.parse_hex::<16>()? as u64;
                }
                "parentSpanId" => {
                    once.first(2)?;
                    let text = cursor.plain_text()?;
                    raw.parent_id =
                        if text.is_empty() { None } else { Some(text.parse_hex::<16>()? as u64).filter(|&id| id != 0) };
                }
                "traceState" => {
                    once.first(3)?;
                    raw.trace_state = cursor.text()?;
                }
                "name" => {
                    once.first(4)?;
                    raw.name = cursor.text()?;
                }
                "kind" => {
                    once.first(5)?;
                    raw.kind = match cursor.peek()? {
                        b'"' => match cursor.plain_text()? {
                            name if name.starts_with(|c: char| c.is_ascii_digit()) => return None,
                            name => kind_named(name).unwrap_or_default(),
                        },
                        _ => kind_number(cursor.number()?),
                    };
                }
                "startTimeUnixNano" => {
                    once.first(6)?;
                    raw.start = cursor.time()?;
                }
                "endTimeUnixNano" => {
                    once.first(7)?;
                    raw.end = cursor.time()?;
                }
                "attributes" => {
                    once.first(8)?;
                    if !raw.kept {
                        return cursor.skip(key);
                    }
                    raw.attributes = self.attributes(cursor)?;
                }
                "events" => {
                    once.first(9)?;
                    if !raw.kept {
                        return cursor.skip(key);
                    }
                    cursor.list(|cursor| {
                        let mut once = Once::default();
                        cursor.object(|cursor, key| match key {
                            "attributes" => {
                                once.first(0)?;
                                let range = self.attributes(cursor)?;
                                of_exceptions
                                    .extend(self.attributes.drain(range).filter(|(key, _)| key.starts_with("exception.")));
                                Some(())
                            }
                            _ => cursor.skip(key),
                        })
                    })?;
                }
                "links" => {
                    once.first(10)?;
                    if !raw.kept {
                        return cursor.skip(key);
                    }
                    let first = self.links.len();
                    cursor.list(|cursor| {
                        let (mut trace, mut id) = (None, None);
                        cursor.object(|cursor, key| match key {
                            "traceId" if trace.is_none() => {
                                trace = Some(cursor.plain_text()?.parse_hex::<32>()?);
                                Some(())
                            }
                            "spanId" if id.is_none() => {
                                id = Some(cursor.plain_text()?.parse_hex::<16>()? as u64);
                                Some(())
                            }
                            "traceId" | "spanId" => None,
                            _ => cursor.skip(key),
                        })?;
                        self.links.push((trace?, id?));
                        Some(())
                    })?;
                    raw.links = first..self.links.len();
                }
                "status" => {
                    once.first(11)?;
                    let mut once = Once::default();
                    cursor.object(|cursor, key| {
                        match key {
                            "code" => {
                                once.first(0)?;
                                raw.status = match cursor.peek()? {
                                    b'"' => match cursor.plain_text()? {
                                        "STATUS_CODE_OK" => StatusCode::Ok,
                                        "STATUS_CODE_ERROR" => StatusCode::Error,
                                        "STATUS_CODE_UNSET" => StatusCode::Unset,
                                        _ => return None,
                                    },
                                    _ => match cursor.number()? {
                                        1 => StatusCode::Ok,
                                        2 => StatusCode::Error,
                                        _ => StatusCode::Unset,
                                    },
                                };
                            }
                            "message" => {
                                once.first(1)?;
                                raw.message = Some(cursor.text()?);
                            }
                            _ => return cursor.skip(key),
                        }
                        Some(())
                    })?;
                }
                _ => return cursor.skip(key),
            }
            Some(())
        })?;
        if raw.trace_id == 0 || raw.span_id == 0 || raw.start > LATEST_NS || raw.end > LATEST_NS {
            return None;
        }
        if !of_exceptions.is_empty() {
            // Nothing else came after the span's own, or they are moved behind it.
            let own: Vec<_> = self.attributes.drain(raw.attributes.clone()).collect();
            let first = self.attributes.len();
            self.attributes.extend(own);
            self.attributes.append(&mut of_exceptions);
            raw.attributes = first..self.attributes.len();
        }
        self.spans.push(raw);
        Some(())
    }

    /// A list of key-value pairs.
    fn attributes(&mut self, cursor: &mut Cursor<'a>) -> Option<Range<usize>> {
        let first = self.attributes.len();
        cursor.list(|cursor| {
            let (mut key, mut value) = (None, None);
            cursor.object(|cursor, name| match name {
                "key" if key.is_none() => {
                    key = Some(cursor.text()?);
                    Some(())
                }
                "value" if value.is_none() => {
                    value = Some(cursor.any_value()?);
                    Some(())
                }
                "key" | "value" => None,
                _ => cursor.skip(name),
            })?;
            self.attributes.push((key.unwrap_or_default(), value.unwrap_or_default()));
            Some(())
        })?;
        Some(first..self.attributes.len())
    }

    /// All of it is sound: nothing below can fail, but for times that are mended.
    fn push_all(mut self, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
        let mut spans = std::mem::take(&mut self.spans);
        for resource in &self.resources {
            let mut facts = RecorderFacts::default();
            for (key, value) in &mut self.attributes[resource.attributes.clone()] {
                facts.note(key, std::mem::take(value));
            }
            let recorder = facts.recorder(inbox.names);
            for (scope, of_scope) in &self.scopes[resource.scopes.clone()] {
                for raw in &mut spans[of_scope.clone()] {
                    let mut span = Span {
                        trace_id: raw.trace_id,
                        span_id: raw.span_id,
                        parent_id: raw.parent_id,
                        service: recorder.service.clone(),
                        instance: recorder.instance.clone(),
                        kind: raw.kind,
                        ..Span::default()
                    };
                    // The times were looked at.
                    let _ = inbox.set_times(&mut span, raw.start, raw.end);
                    if !raw.kept {
                        inbox.pass_over(&span.service, span.parent_id.is_none());
                        continue;
                    }
                    span.links.extend_from_slice(&self.links[raw.links.clone()]);
                    let mut facts = Facts::default();
                    facts.note_scope(scope);
                    for (key, value) in &mut self.attributes[raw.attributes.clone()] {
                        facts.note(key, std::mem::take(value));
                    }
                    facts.note_trace_state(&raw.trace_state);
                    facts.note_status(raw.status, raw.message.take());
                    facts.fill(&mut span, &raw.name, inbox.names);
                    inbox.push(span);
                }
            }
        }
        Ok(())
    }
}

/// Keys that may be there once.
#[derive(Default)]
struct Once(u32);

impl Once {
    fn first(&mut self, key: u32) -> Option<()> {
        let bit = 1 << key;
        let first = self.0 & bit == 0;
        self.0 |= bit;
        first.then_some(())
    }
}

/// A place in a text.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

trait ParseHex {
    /// Exactly `DIGITS` hexadecimal digits.
    fn parse_hex<const DIGITS: usize>(self) -> Option<u128>;
}

impl ParseHex for &str {
    fn parse_hex<const DIGITS: usize>(self) -> Option<u128> {
        /// The value of each byte as a digit; 0xff for none.
        const VALUES: [u8; 256] = {
            let mut values = [0xff; 256];
            let mut digit = 0;
            while digit < 16 {
                values[b"0123456789abcdef"[digit as usize] as usize] = digit;
                values[b"0123456789ABCDEF"[digit as usize] as usize] = digit;
                digit += 1;
            }
            values
        };
        let bytes: &[u8; DIGITS] = self.as_bytes().try_into().ok()?;
        let (mut halves, mut bad) = ([0u64; 2], 0);
        for (index, &byte) in bytes.iter().enumerate() {
            let value = VALUES[byte as usize];
            bad |= value;
            let half = &mut halves[usize::from(index >= DIGITS.saturating_sub(16))];
            *half = *half << 4 | u64::from(value & 15);
        }
        (bad < 16).then_some(u128::from(halves[0]) << 64 | u128::from(halves[1]))
    }
}

impl<'a> Cursor<'a> {
    fn of(text: &'a [u8]) -> Option<Self> {
        Some(Cursor { text: str::from_utf8(text).ok()?, at: 0 })
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    #[inline]
    fn white_space(&mut self) {
        while matches!(self.bytes().get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        match self.bytes().get(self.at) {
            Some(&byte) if byte > b' ' => Some(byte),
            _ => {
                self.white_space();
                self.bytes().get(self.at).copied()
            }
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn end(&mut self) -> Option<()> {
        self.white_space();
        (self.at == self.text.len()).then_some(())
    }

    /// Every element of an array.
    fn list(&mut self, mut read: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(b'[')?;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            read(self)?;
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Every member of an object; `read` takes the value.
    fn object(&mut self, mut read: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let key = self.key()?;
            read(self, key)?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    fn key(&mut self) -> Option<&'a str> {
        let key = self.plain_text()?;
        self.take(b':')?;
        Some(key)
    }

    /// Skips a value of no interest, unless its key may be another spelling of one that is.
    fn skip(&mut self, key: &str) -> Option<()> {
        let spelling = key.contains('_') || key.starts_with("instrumentationLibrary");
        if spelling { None } else { self.skip_value(0) }
    }

    fn skip_value(&mut self, depth: u32) -> Option<()> {
        match self.peek()? {
            b'"' => self.text().map(|_| ()),
            b'{' if depth < DEEPEST => self.object(|cursor, _| cursor.skip_value(depth + 1)),
            b'[' if depth < DEEPEST => self.list(|cursor| cursor.skip_value(depth + 1)),
            b'0'..=b'9' => {
                let number = self.scalar()?;
                let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
                let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                (digits(whole) && digits(fraction)).then_some(())
            }
            _ => matches!(self.scalar()?, "true" | "false" | "null").then_some(()),
        }
    }

    /// The bytes of a number or a word. Numbers below zero or with an exponent are left to others, and so is what JSON would not
    /// allow as a number.
    fn scalar(&mut self) -> Option<&'a str> {
        self.peek()?;
        let rest = &self.bytes()[self.at..];
        let length = rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'.')).unwrap_or(rest.len());
        let text = &self.text[self.at..self.at + length];
        self.at += length;
        let leading_zero = matches!(text.as_bytes(), [b'0', b'0'..=b'9', ..]);
        (length > 0 && !leading_zero).then_some(text)
    }

    /// A whole number.
    fn number(&mut self) -> Option<u64> {
        digits(self.scalar()?)
    }

    /// A time: a whole number, mostly written as text.
    fn time(&mut self) -> Option<u64> {
        if self.peek()? == b'"' { digits(self.plain_text()?) } else { self.number() }
    }

    /// A text without escapes.
    #[inline]
    fn plain_text(&mut self) -> Option<&'a str> {
        let (text, escapes) = self.raw_text()?;
        (!escapes).then_some(text)
    }

    /// A text.
    fn text(&mut self) -> Option<Cow<'a, str>> {
        self.peek()?;
        let begin = self.at;
        let (text, escapes) = self.raw_text()?;
        if escapes { serde_json::from_str(&self.text[begin..self.at]).ok().map(Cow::Owned) } else { Some(text.into()) }
    }

    /// A text as it stands between its quotes, and whether there are escapes in it.
    #[inline]
    fn raw_text(&mut self) -> Option<(&'a str, bool)> {
        self.take(b'"')?;
        let begin = self.at;
        let mut escapes = false;
        loop {
            self.at += plain_length(&self.bytes()[self.at..]);
            match self.bytes().get(self.at)? {
                b'"' => break,
                b'\\' => {
                    escapes = true;
                    self.at += 2;
                }
                _ => return None,
            }
        }
        let text = self.text.get(begin..self.at)?;
        self.at += 1;
        Some((text, escapes))
    }

    /// OTLP's tagged value.
    fn any_value(&mut self) -> Option<Value<'a>> {
        let mut value = Value::Other;
        self.object(|cursor, tag| {
            match tag {
                "stringValue" => value = Value::Str(cursor.text()?),
                "intValue" if cursor.peek()? == b'"' => value = cursor.plain_text()?.parse().map_or(Value::Other, Value::Int),
                "intValue" => value = Value::Int(i64::try_from(cursor.number()?).ok()?),
                "boolValue" => {
                    value = match cursor.scalar()? {
                        "true" => Value::Bool(true),
                        "false" => Value::Bool(false),
                        _ => return None,
                    };
                }
                // Numbers have more forms than it pays to know here.
                "doubleValue" => return None,
                _ => return cursor.skip(tag),
            }
            Some(())
        })?;
        Some(value)
    }
}

/// A text of digits as a number.
fn digits(text: &str) -> Option<u64> {
    let all_digits = (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| text.bytes().fold(0, |number, byte| number * 10 + u64::from(byte - b'0')))
}

/// How many bytes there are before a quote, a backslash or a control character: eight at a time.
#[inline]
pub(crate) fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*word);
        // A byte below n: the subtraction borrows into its high bit, which was not set. Exact for the lowest such byte.
        let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & HIGHS;
        let found = below(word ^ ONES * 0x22, 1) | below(word ^ ONES * 0x5c, 1) | below(word, 0x20);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::inbox::{Notes, Place};
    use super::super::kept::Kept;
    use super::super::names::Names;
    use super::super::{Limits, otlp_json};
    use super::*;

    const USUAL: &str = r#"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}},{"key":"process.pid","value":
        {"intValue":"17"}},{"key":"x","value":{"arrayValue":{"values":[{"stringValue":"a\"b"},{"intValue":1}]}}}],"droppedAttributesCount":0},
        "scopeSpans":[{"scope":{"name":"envoy","version":"1.0"},"spans":[
        {"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7","parentSpanId":"00f067aa0ba902b6","flags":257,"name":"GET /a",
        "kind":3,"startTimeUnixNano":"1700000000000000001","endTimeUnixNano":1700000000000000901,"traceState":"ot=th:8","attributes":[
        {"key":"http.request.method","value":{"stringValue":"GET"}},{"key":"url.full","value":{"stringValue":"http://cart\u002fx:80/a?b=\u00e9\\"}},
        {"key":"http.response.status_code","value":{"intValue":503}},{"key":"error","value":{"boolValue":true}},{"value":{}}],
        "events":[{"timeUnixNano":"1700000000000000002","name":"exception","attributes":[{"key":"exception.message","value":{"stringValue":
        "connection reset"}},{"key":"error.type","value":{"stringValue":"not looked at"}}]}],
        "links":[{"traceId":"4BF92F3577B34DA6A3CE929D0E0E4737","spanId":"00f067aa0ba902b8","attributes":[]}],
        "status":{"code":2,"message":"x timeout"}},
        {"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b6","parentSpanId":"","name":"näme","kind":"SPAN_KIND_SERVER",
        "startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000001000","status":{"code":"STATUS_CODE_OK"},"score":[0.5,{}]},
        {"traceId":"4bf92f3577b34da6a3ce929d0e0e4738","spanId":"1","name":"","startTimeUnixNano":"5","endTimeUnixNano":"4"}
        ]},{"spans":[]}],"schemaUrl":"https://opentelemetry.io/schemas/1.21.0"}"#;

    fn read(fill: impl FnOnce(&mut Inbox<'_>) -> bool) -> Option<(Vec<Span>, String)> {
        let (mut names, mut kept) = (Names::default(), Kept::new(&Limits::default()));
        let mut inbox = Inbox::new("text", 0, &mut names, &mut kept, false);
        let read = fill(&mut inbox);
        let Notes { spans, services, skipped_records, mended, .. } = &inbox.notes;
        let notes = format!("{spans} {services:?} {skipped_records:?} {mended:?}");
        read.then(|| (kept.finish().0.into_iter().flatten().collect(), notes))
    }

    /// Whether the fast reader takes the text; if it does, the other one must find the same.
    fn agree(text: &[u8]) -> bool {
        let fast = read(|inbox| element(text, inbox).is_some());
        let other = read(|inbox| otlp_json::unusual_resource_spans(text, &Place::line(1), inbox).is_ok());
        if fast.is_some() {
            assert_eq!(fast, other, "{}", String::from_utf8_lossy(text));
        }
        fast.is_some()
    }

    #[test]
    fn the_usual_is_taken_and_the_unusual_left() {
        let usual = USUAL.replace(r#""spanId":"1""#, r#""spanId":"0000000000000001""#);
        assert!(agree(usual.as_bytes()));
        assert!(!agree(USUAL.as_bytes()), "an id of one digit");
        for (from, to) in [
            ("traceId", "trace_id"),
            ("\"kind\":3", "\"kind\":null"),
            ("scopeSpans", "instrumentationLibrarySpans"),
            ("4bf92f3577b34da6a3ce929d0e0e4738", "Gs/0pqWSBPwvpdpUJgDOxQ=="),
            ("\"flags\":257", "\"flags\":0257"),
            ("\"flags\":257", "\"name\":\"twice\""),
            ("GET /a", "GET \t/a"),
            ("\\u00e9", "\\u00zz"),
            ("1700000000000000000", "9999999999999999999"),
            ("]},{\"spans\":[]}", "]},{\"spans\":[]},"),
        ] {
            assert!(usual.contains(from), "{from}");
            assert!(!agree(usual.replace(from, to).as_bytes()), "{from} {to}");
        }
    }

    #[test]
    fn plain_text_ends_at_quotes_backslashes_and_control_characters() {
        for end in ["\"", "\\", "\n", "\u{1f}", ""] {
            for length in 0..20 {
                let text = format!("{}{end}\"\\é", "é~ !#[]z\u{7f}".repeat(3).chars().take(length).collect::<String>());
                let slow = text.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\');
                assert_eq!(Some(plain_length(text.as_bytes())), slow, "{text:?}");
            }
        }
        assert_eq!(plain_length("é~ !#[]z".as_bytes()), 9);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_taken_is_what_the_other_reader_finds(
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![
                "", "0", "1", "\"", "\\", ",", ":", "{", "}", "[", "]", "null", "true", "-", ".", "e", "_", " ", "\n", "\u{0}", "é",
                "\"x\":1,", "{},", "[],", "\"kind\":2,", "999999999999",
            ]), 0..3usize), 1..3),
        ) {
            let mut text = USUAL.replace(r#""spanId":"1""#, r#""spanId":"0000000000000001""#).into_bytes();
            for (at, with, removed) in changes {
                let at = at.index(text.len());
                let end = (at + removed).min(text.len());
                text.splice(at..end, with.bytes());
            }
            agree(&text);
        }
    }
}
