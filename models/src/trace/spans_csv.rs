//! Tables of spans as comma-separated values, a row a span, or a row a pair of parent and child.
//!
//! You are here: `models::trace::spans_csv`. `read` hands over text that is no JSON; a [`CsvMap`] says which column is what, a person's
//! or one of those known by their header.
//! Always true: a row that cannot be read costs that row; a row has a limit, an open quote cannot swallow the memory.
//!
//! Known without a map: tables of Nezha (`TraceID,SpanID,ParentID,PodName,...`) and of DeathStarBench (pairs).

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder};

use super::attributes::{Facts, Value};
use super::canonical::service_of_pod;
use super::inbox::{Inbox, Place, Stop};
use super::loose::{fnv128, hex_id};
use super::read::Format;
use super::{Kind, Span};
use crate::error::{InputError, nearest};

/// Longest header that is looked for a table's columns.
const LONGEST_HEADER: u64 = 64 * 1024;
/// Separators that a header may have.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// What a column may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Trace,
    Span,
    Parent,
    Service,
    Pod,
    Instance,
    Operation,
    Kind,
    Start,
    End,
    Duration,
    Status,
    Peer,
    // Of the parent in a row of its child.
    TraceStart,
    ParentService,
    ParentPod,
    ParentOperation,
    ParentDuration,
}

const FIELDS: [(&str, Field); 18] = [
    ("trace", Field::Trace),
    ("span", Field::Span),
    ("parent", Field::Parent),
    ("service", Field::Service),
    ("pod", Field::Pod),
    ("instance", Field::Instance),
    ("operation", Field::Operation),
    ("kind", Field::Kind),
    ("start", Field::Start),
    ("end", Field::End),
    ("duration", Field::Duration),
    ("status", Field::Status),
    ("peer", Field::Peer),
    ("trace-start", Field::TraceStart),
    ("parent-service", Field::ParentService),
    ("parent-pod", Field::ParentPod),
    ("parent-operation", Field::ParentOperation),
    ("parent-duration", Field::ParentDuration),
];

/// A unit of time as nanoseconds.
const UNITS: [(&str, u64); 4] = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];

/// Which column holds what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsvMap {
    columns: BTreeMap<Field, Column>,
}

/// A column by its name, and the unit of its times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    name: String,
    unit_ns: Option<u64>,
}

impl CsvMap {
    /// Reads `trace=TraceID,span=SpanID,parent=ParentID,service=Service,start=Start:ms,duration=Took:us`; the error says what is wrong.
    pub fn parse(text: &str) -> Result<CsvMap, String> {
        let mut map = CsvMap::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (field, column) = part.split_once('=').ok_or_else(|| format!("{part}: expected FIELD=COLUMN"))?;
            let (name, field) = *FIELDS.iter().find(|(name, _)| *name == field.trim()).ok_or_else(|| {
                let near = nearest(field.trim(), FIELDS.iter().map(|(name, _)| *name));
                let all = FIELDS.map(|(name, _)| name).join(", ");
                let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                format!("{field}: no such field{near} (fields are {all})")
            })?;
            let is_time =
                matches!(field, Field::Start | Field::End | Field::Duration | Field::TraceStart | Field::ParentDuration);
            let with_unit = column.rsplit_once(':').and_then(|(column, unit)| {
                let unit = UNITS.iter().find(|(name, _)| *name == unit.trim())?.1;
                Some((column, Some(unit)))
            });
            let (column, unit_ns) = with_unit.filter(|_| is_time).unwrap_or((column, None));
            if matches!(field, Field::Duration | Field::ParentDuration) && unit_ns.is_none() {
                return Err(format!("{part}: a {name} needs its unit (ns, us, ms or s), such as {name}={column}:us"));
            }
            let column = Column { name: column.trim().to_owned(), unit_ns };
            if map.columns.insert(field, column).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        let has = |field| map.columns.contains_key(&field);
        let missing = [
            ("trace", has(Field::Trace)),
            ("span", has(Field::Span)),
            ("start", has(Field::Start)),
            ("end or duration", has(Field::End) || has(Field::Duration)),
            ("service or pod", has(Field::Service) || has(Field::Pod)),
        ];
        match missing.iter().find(|(_, there)| !there) {
            Some((what, _)) => Err(format!("no column for {what}")),
            None => Ok(map),
        }
    }

    /// The map of a table whose header is known.
    fn known(header: &[Cow<'_, str>]) -> Option<CsvMap> {
        const NEZHA: &str = "trace=TraceID,span=SpanID,parent=ParentID,pod=PodName,operation=OperationName,\
            start=StartTimeUnixNano:ns,end=EndTimeUnixNano:ns";
        const DEATH_STAR_BENCH: &str = "trace=traceId,span=childId,parent=parentId,service=childMS,instance=childPod,\
            operation=childOperation,start=startTime:us,end=endTime:us,trace-start=traceTime:us,parent-service=parentMS,\
            parent-pod=parentPod,parent-operation=parentOperation,parent-duration=parentDuration:us";
        [NEZHA, DEATH_STAR_BENCH]
            .into_iter()
            .filter_map(|text| CsvMap::parse(text).ok())
            .find(|map| map.columns.values().all(|column| header.iter().any(|name| *name == column.name)))
    }
}

/// A map with the place of each column in the row.
struct Layout {
    places: BTreeMap<Field, (usize, Option<u64>)>,
    width: usize,
}

/// Lets through so many bytes until it is told that a row has ended.
struct Guard<R> {
    inner: R,
    left: Rc<Cell<usize>>,
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            return Err(io::Error::other("one row larger than the limit; is a quote left open?"));
        }
        let got = self.inner.read(buffer)?;
        self.left.set(self.left.get().saturating_sub(got));
        Ok(got)
    }
}

/// Reads a table to its end; gives the input back if it is none that can be read.
pub(crate) fn read_all<R: Read>(mut input: R, map: Option<&CsvMap>, max_row: usize, inbox: &mut Inbox<'_>) -> Result<R, Stop> {
    let mut head = Vec::new();
    // What cannot be read looks like an end; the source says afterwards what it was.
    let _ = (&mut input).take(LONGEST_HEADER).read_to_end(&mut head);
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let separator =
        *SEPARATORS.iter().max_by_key(|separator| line.iter().filter(|byte| byte == separator).count()).unwrap_or(&b',');
    let text = String::from_utf8_lossy(line);
    let header: Vec<Cow<'_, str>> =
        text.trim_end().split(char::from(separator)).map(|name| Cow::from(name.trim().trim_matches('"').to_owned())).collect();
    let known = CsvMap::known(&header);
    let Some(map) = map.or(known.as_ref()) else {
        if header.len() < 4 {
            return Ok(input);
        }
        return Err(unknown_header(&header, inbox));
    };
    let layout = layout(map, &header, inbox)?;
    inbox.recognised(Format::Csv);

    let left = Rc::new(Cell::new(max_row));
    let whole = Guard { inner: io::Cursor::new(head).chain(&mut input), left: left.clone() };
    let mut reader = ReaderBuilder::new().delimiter(separator).has_headers(true).flexible(true).from_reader(whole);
    let mut row = ByteRecord::new();
    let mut pairs = Pairs::default();
    loop {
        let line = reader.position().line();
        match reader.read_byte_record(&mut row) {
            Ok(true) => left.set(max_row),
            Ok(false) => break,
            Err(error) => {
                let reason = match error.into_kind() {
                    csv::ErrorKind::Io(error) => error.to_string(),
                    other => format!("{other:?}"),
                };
                inbox.skip(Place::line(line), reason)?;
                break;
            }
        }
        let line = row.position().map_or(line, csv::Position::line);
        if let Err(reason) = layout.row(&row, &mut pairs, inbox) {
            inbox.skip(Place::line(line), reason)?;
        }
    }
    pairs.roots(inbox);
    drop(reader);
    Ok(input)
}

fn unknown_header(header: &[Cow<'_, str>], inbox: &Inbox<'_>) -> Stop {
    const SHOWN: usize = 12;
    let names: Vec<&str> = header.iter().take(SHOWN).map(|name| &**name).collect();
    let more = if header.len() > SHOWN { format!(" and {} more", header.len() - SHOWN) } else { String::new() };
    Stop(Box::new(InputError {
        file: inbox.name.to_owned(),
        line: Some(1),
        place: None,
        found: format!("a table with the columns {}{more}", names.join(", ")),
        expected: "a table of spans whose header is known, or a word on which column is what".to_owned(),
        help: "--csv-map 'trace=COLUMN,span=COLUMN,parent=COLUMN,service=COLUMN,operation=COLUMN,start=COLUMN:us,duration=COLUMN:us'"
            .to_owned(),
    }))
}

fn layout(map: &CsvMap, header: &[Cow<'_, str>], inbox: &Inbox<'_>) -> Result<Layout, Stop> {
    let mut places = BTreeMap::new();
    for (&field, column) in &map.columns {
        let Some(place) = header.iter().position(|name| *name == column.name) else {
            let near = nearest(&column.name, header.iter().map(|name| &**name));
            return Err(Stop(Box::new(InputError {
                file: inbox.name.to_owned(),
                line: Some(1),
                place: None,
                found: format!("no column {}", column.name),
                expected: format!("one of: {}", header.join(", ")),
                help: near.map_or_else(String::new, |near| format!("did you mean {near}? (--csv-map)")),
            })));
        };
        places.insert(field, (place, column.unit_ns));
    }
    Ok(Layout { places, width: header.len() })
}

/// Parents that rows of their children tell of, and the spans with rows of their own.
#[derive(Default)]
struct Pairs {
    parents: BTreeMap<(u128, u64), Span>,
    own: BTreeSet<(u128, u64)>,
}

impl Pairs {
    /// Adds the parents that have no row.
    fn roots(self, inbox: &mut Inbox<'_>) {
        for (id, span) in self.parents {
            if !self.own.contains(&id) {
                inbox.push(span);
            }
        }
    }
}

impl Layout {
    fn text<'r>(&self, row: &'r ByteRecord, field: Field) -> Cow<'r, str> {
        let bytes = self.places.get(&field).and_then(|&(place, _)| row.get(place)).unwrap_or_default();
        match String::from_utf8_lossy(bytes) {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
        }
    }

    /// A time in nanoseconds; an empty or missing field is none.
    fn time(&self, row: &ByteRecord, field: Field) -> Result<Option<u64>, String> {
        let text = self.text(row, field);
        if text.is_empty() {
            return Ok(None);
        }
        let unit = self.places.get(&field).and_then(|&(_, unit)| unit);
        nanos(&text, unit).map(Some).ok_or_else(|| format!("{text:?} is not a time"))
    }

    /// Takes one row; the error is the reason why it cannot be.
    fn row(&self, row: &ByteRecord, pairs: &mut Pairs, inbox: &mut Inbox<'_>) -> Result<(), String> {
        if row.len() != self.width {
            return Err(format!("{} columns where the header has {}", row.len(), self.width));
        }
        let id = |field: Field, digits: usize| {
            let text = self.text(row, field);
            id(&text, digits).ok_or_else(|| format!("{:?} is not an id", text.chars().take(64).collect::<String>()))
        };
        let mut span = Span { trace_id: id(Field::Trace, 32)?, span_id: id(Field::Span, 16)? as u64, ..Span::default() };
        let parent = self.text(row, Field::Parent);
        if !(parent.is_empty() || ["root", "null", "none", "nan", "-1", "0"].iter().any(|none| parent.eq_ignore_ascii_case(none)))
        {
            span.parent_id = Some(id(Field::Parent, 16)? as u64).filter(|&id| id != 0);
        }
        let start = self.time(row, Field::Start)?.ok_or("no start")?;
        let end = match (self.time(row, Field::End)?, self.time(row, Field::Duration)?) {
            (Some(end), _) => end,
            (None, Some(duration)) => start.saturating_add(duration),
            (None, None) => 0,
        };
        inbox.set_times(&mut span, start, end)?;
        let (service, pod) = (self.text(row, Field::Service), self.text(row, Field::Pod));
        let instance = self.text(row, Field::Instance);
        span.service = inbox.names.get(if service.is_empty() { service_of_pod(&pod) } else { &service });
        span.instance = inbox.names.get(if instance.is_empty() { &pod } else { &instance });
        if span.service.is_empty() {
            return Err("no service".to_owned());
        }
        let mut facts = Facts::default();
        facts.note("span.kind", Value::Str(self.text(row, Field::Kind)));
        facts.note("peer.service", Value::Str(self.text(row, Field::Peer)));
        let status = self.text(row, Field::Status);
        match status.parse::<i64>() {
            Ok(code) if (100..=599).contains(&code) => facts.note("http.response.status_code", Value::Int(code)),
            // OpenTelemetry's number of an error.
            Ok(2) => facts.note_failed(),
            Ok(_) => {}
            Err(_) if ["error", "status_code_error", "failed", "true"].iter().any(|bad| status.eq_ignore_ascii_case(bad)) => {
                facts.note_failed();
            }
            Err(_) => {}
        }
        facts.fill(&mut span, &self.text(row, Field::Operation), inbox.names);
        if self.places.contains_key(&Field::ParentDuration) {
            pairs.own.insert((span.trace_id, span.span_id));
            if let Some(parent) = self.parent(row, &span, inbox)? {
                pairs.parents.entry((span.trace_id, parent.span_id)).or_insert(parent);
            }
        }
        inbox.push(span);
        Ok(())
    }

    /// The parent that a row of its child describes. It begins with the trace if it turns out to have no row of its own: a root.
    fn parent(&self, row: &ByteRecord, child: &Span, inbox: &mut Inbox<'_>) -> Result<Option<Span>, String> {
        let Some(span_id) = child.parent_id else { return Ok(None) };
        let mut span = Span { trace_id: child.trace_id, span_id, kind: Kind::Internal, ..Span::default() };
        let length = self.time(row, Field::ParentDuration)?.unwrap_or(child.duration_ns);
        let start = self.time(row, Field::TraceStart)?.unwrap_or(child.start_ns);
        inbox.set_times(&mut span, start, start.saturating_add(length))?;
        let (service, pod) = (self.text(row, Field::ParentService), self.text(row, Field::ParentPod));
        span.service = inbox.names.get(if service.is_empty() { service_of_pod(&pod) } else { &service });
        span.instance = inbox.names.get(&pod);
        Facts::default().fill(&mut span, &self.text(row, Field::ParentOperation), inbox.names);
        Ok(Some(span))
    }
}

/// An id: hexadecimal digits as they are; any other word by its hash, since ids are only ever compared.
fn id(text: &str, digits: usize) -> Option<u128> {
    match hex_id(text) {
        Some(id) if text.len() <= digits => Some(id).filter(|&id| id != 0),
        _ if (1..=128).contains(&text.len()) => Some(fnv128(text) & (u128::MAX >> (128 - 4 * digits as u32))),
        _ => None,
    }
}

/// A time as nanoseconds, exactly: whole numbers and decimals. Without a unit, the number itself tells: a time of these centuries has
/// 10 digits in seconds, 13 in milliseconds, 16 in microseconds, 19 in nanoseconds.
fn nanos(text: &str, unit_ns: Option<u64>) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) {
        // 1.7e+09, as some tables have it.
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)?;
        let ns = number * unit_ns.unwrap_or_else(|| unit_of(number)) as f64;
        return (ns < 1.8e19).then_some(ns as u64);
    }
    let number: u64 = whole.parse().ok()?;
    let unit = unit_ns.unwrap_or_else(|| unit_of(number as f64));
    let mut fraction = 0_u64;
    let mut place = unit;
    for digit in part.bytes() {
        place /= 10;
        fraction += u64::from(digit - b'0') * place;
    }
    number.checked_mul(unit)?.checked_add(fraction)
}

fn unit_of(epoch: f64) -> u64 {
    match epoch {
        n if n < 1e11 => 1_000_000_000,
        n if n < 1e14 => 1_000_000,
        n if n < 1e17 => 1_000,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_and_their_unit_told_or_seen() {
        assert_eq!(nanos("1661272329501939816", None), Some(1_661_272_329_501_939_816));
        assert_eq!(nanos("1695943858155643", None), Some(1_695_943_858_155_643_000));
        assert_eq!(nanos("1695943858.155643123", None), Some(1_695_943_858_155_643_123));
        assert_eq!(nanos("2.5", Some(1_000_000)), Some(2_500_000));
        assert_eq!(nanos("1e3", Some(1_000)), Some(1_000_000));
        assert_eq!([nanos("-5", None), nanos("x", None), nanos("99999999999999999999", None)], [None; 3]);
    }

    #[test]
    fn a_map_says_what_is_wrong_with_it() {
        for (map, wrong) in [
            ("trace", "trace: expected FIELD=COLUMN"),
            ("trase=T", "trase: no such field; did you mean trace?"),
            ("trace=T,trace=U", "trace is there twice"),
            ("trace=T,span=S,start=B,duration=D,service=X", "duration=D: a duration needs its unit"),
            ("trace=T,span=S,start=B,service=X", "no column for end or duration"),
        ] {
            let error = CsvMap::parse(map).expect_err(map);
            assert!(error.starts_with(wrong), "{error}");
        }
        assert!(CsvMap::parse("trace=T, span=S, start=B:ms, end=E:ms, pod=P").is_ok());
    }
}
