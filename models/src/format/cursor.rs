//! A walk through a document that knows where it is and collects every mistake it meets.
//!
//! You are here: `models::format::cursor`, between `doc` and the decoders (`decode` here, and that of scenario files).
//! Always true: a reader that returns `None` has put its mistake into [`Mistakes`]; reading goes on after it.
//! Not here: which keys a file may hold (the decoders' [`Shape`]s).

use crate::error::{InputError, InputErrors, nearest};
use crate::format::doc::{Node, Value, pointer_step};
use crate::param::{Limit, Param, Source};
use crate::units::{Nanos, Rate};

/// Mistakes of one file, as they are met.
#[derive(Debug)]
pub struct Mistakes {
    file: String,
    list: Vec<InputError>,
}

impl Mistakes {
    /// None yet, in the file that errors call `file`.
    pub fn new(file: &str) -> Self {
        Mistakes { file: file.into(), list: Vec::new() }
    }

    /// A mistake at `at`: what stands there is not what was expected.
    pub fn add(&mut self, at: &Cursor<'_>, expected: impl Into<String>, help: impl Into<String>) {
        self.add_found(at, at.node.shown(), expected, help);
    }

    /// A mistake at `at` whose `found` is something else than the value there.
    pub fn add_found(&mut self, at: &Cursor<'_>, found: impl Into<String>, expected: impl Into<String>, help: impl Into<String>) {
        self.list.push(InputError {
            file: self.file.clone(),
            line: Some(at.line),
            place: (!at.place.is_empty()).then(|| at.place.clone()),
            found: found.into(),
            expected: expected.into(),
            help: help.into(),
        });
    }

    /// All mistakes so far.
    pub fn take(&mut self) -> Vec<InputError> {
        std::mem::take(&mut self.list)
    }

    /// `value`, if there was no mistake; else all of them, in the order of the file.
    pub fn or<T>(mut self, value: T) -> Result<T, InputErrors> {
        self.list.sort_by_key(|error| error.line);
        if self.list.is_empty() { Ok(value) } else { Err(InputErrors(self.list)) }
    }
}

/// The keys that a map of one kind may hold. `name` is its definition in the JSON Schema.
#[derive(Debug)]
pub struct Shape {
    /// The definition's name under `$defs`; the empty string is the schema's root.
    pub name: &'static str,
    /// Every key.
    pub keys: &'static [&'static str],
}

/// A place in a document: the value there, its line, and the JSON pointer to it.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    /// What stands there.
    pub node: &'a Node,
    /// The line that errors name: of the key, where there is one.
    pub line: u64,
    /// JSON pointer.
    pub place: String,
}

/// A map whose keys have been checked against its [`Shape`].
#[derive(Debug)]
pub struct Fields<'a> {
    /// The map itself.
    pub at: Cursor<'a>,
}

impl<'a> Fields<'a> {
    /// The value under `key`, if it is there.
    pub fn get(&self, key: &str) -> Option<Cursor<'a>> {
        self.at.key(key)
    }

    /// The value under `key`; a mistake if it is not there.
    pub fn need(&self, key: &str, expected: &str, m: &mut Mistakes) -> Option<Cursor<'a>> {
        let found = self.get(key);
        if found.is_none() {
            m.add_found(&self.at, format!("no {key}"), format!("{key}: {expected}"), "");
        }
        found
    }
}

impl<'a> Cursor<'a> {
    /// The document's own value.
    pub fn root(node: &'a Node) -> Self {
        Cursor { node, line: node.line, place: String::new() }
    }

    /// The value under `key`, if this is a map that has it.
    pub fn key(&self, key: &str) -> Option<Cursor<'a>> {
        let Value::Map(entries) = &self.node.value else { return None };
        let (key, node) = entries.iter().find(|(k, _)| k.text == key)?;
        Some(Cursor { node, line: key.line, place: format!("{}/{}", self.place, pointer_step(&key.text)) })
    }

    /// This map with its keys checked: a key that `shape` does not know is a mistake that names the nearest one it does.
    pub fn fields(&self, shape: &Shape, m: &mut Mistakes) -> Option<Fields<'a>> {
        for (key, at) in self.entries(m)? {
            if !shape.keys.contains(&key) {
                let help = nearest(key, shape.keys.iter().copied()).map_or(String::new(), |near| format!("did you mean {near}?"));
                m.add_found(&at, format!("unknown key {key}"), format!("one of {}", shape.keys.join(", ")), help);
            }
        }
        Some(Fields { at: self.clone() })
    }

    /// This map's entries, whatever their keys, in the order of the file.
    pub fn entries(&self, m: &mut Mistakes) -> Option<Vec<(&'a str, Cursor<'a>)>> {
        let Value::Map(entries) = &self.node.value else {
            m.add(self, "a map", "");
            return None;
        };
        let step = |key: &str| format!("{}/{}", self.place, pointer_step(key));
        Some(entries.iter().map(|(k, node)| (&*k.text, Cursor { node, line: k.line, place: step(&k.text) })).collect())
    }

    /// This list's items.
    pub fn items(&self, m: &mut Mistakes) -> Option<Vec<Cursor<'a>>> {
        let Value::List(items) = &self.node.value else {
            m.add(self, "a list", "");
            return None;
        };
        let step = |(i, node): (usize, &'a Node)| Cursor { node, line: node.line, place: format!("{}/{i}", self.place) };
        Some(items.iter().enumerate().map(step).collect())
    }

    /// The text of a scalar that stood without quotes.
    fn plain(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, plain: true } => Some(text),
            _ => None,
        }
    }

    /// The text of a scalar, quoted or not.
    pub fn scalar(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// True for a map.
    pub fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// True for the bare word `word`.
    pub fn is_word(&self, word: &str) -> bool {
        self.scalar() == Some(word)
    }

    /// A text.
    pub fn text(&self, expected: &str, m: &mut Mistakes) -> Option<&'a str> {
        let text = self.scalar();
        if text.is_none() {
            m.add(self, expected, "");
        }
        text
    }

    /// One of these words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)], m: &mut Mistakes) -> Option<T> {
        let found = self.scalar().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let names = || words.iter().map(|(word, _)| *word);
            let near = self.scalar().and_then(|text| nearest(text, names()));
            let help = near.map_or(String::new(), |near| format!("did you mean {near}?"));
            m.add(self, names().collect::<Vec<_>>().join(" or "), help);
        }
        found.map(|&(_, value)| value)
    }

    /// `true` or `false`.
    pub fn boolean(&self, m: &mut Mistakes) -> Option<bool> {
        let found = match self.plain() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        };
        if found.is_none() {
            m.add(self, "true or false", "");
        }
        found
    }

    /// A finite number, 0 or more.
    pub fn real(&self, m: &mut Mistakes) -> Option<f64> {
        let found = self.plain().and_then(|text| text.parse::<f64>().ok()).filter(|x| x.is_finite() && *x >= 0.0);
        if found.is_none() {
            m.add(self, "a number, 0 or more", self.without_quotes());
        }
        found
    }

    /// A number in 0..=1.
    pub fn share(&self, m: &mut Mistakes) -> Option<f64> {
        let found = self.plain().and_then(|text| text.parse::<f64>().ok()).filter(|x| (0.0..=1.0).contains(x));
        if found.is_none() {
            let text = self.scalar().unwrap_or_default();
            let percent = text.trim_end_matches('%').trim().parse::<f64>().ok();
            let help = match percent {
                Some(percent) if text.ends_with('%') || (2.0..=100.0).contains(&percent) => {
                    format!("{percent} % is {}", percent / 100.0)
                }
                _ => self.without_quotes(),
            };
            m.add(self, "a share between 0 and 1", help);
        }
        found
    }

    /// A whole number, 0 or more.
    pub fn count(&self, m: &mut Mistakes) -> Option<u32> {
        let found = self.plain().and_then(whole).and_then(|n| u32::try_from(n).ok());
        if found.is_none() {
            m.add(self, "a whole number, 0 or more", self.without_quotes());
        }
        found
    }

    /// A whole number, 0 or more, that may be large.
    pub fn large(&self, m: &mut Mistakes) -> Option<u64> {
        let found = self.plain().and_then(whole);
        if found.is_none() {
            m.add(self, "a whole number, 0 or more", self.without_quotes());
        }
        found
    }

    /// A whole number, or the word that says there is no bound.
    pub fn limit(&self, no_bound: &str, m: &mut Mistakes) -> Option<Limit> {
        if self.is_word(no_bound) {
            return Some(Limit::Unlimited);
        }
        let found = self.plain().and_then(whole).and_then(|n| u32::try_from(n).ok());
        if found.is_none() {
            m.add(self, format!("a whole number, or {no_bound}"), self.without_quotes());
        }
        found.map(Limit::Of)
    }

    /// A duration with its unit.
    pub fn duration(&self, m: &mut Mistakes) -> Option<Nanos> {
        let found = self.scalar().and_then(Nanos::parse);
        if found.is_none() {
            let number = self.scalar().and_then(|text| text.trim().parse::<f64>().ok()).filter(|x| x.is_finite() && *x >= 0.0);
            let help = match (number, self.last_key()) {
                (Some(number), Some(key)) => format!("write {key}: {number}ms if these are milliseconds"),
                (Some(number), None) => format!("write {number}ms if these are milliseconds"),
                (None, _) => String::new(),
            };
            let expected = match self.scalar() {
                Some(text) if text.trim_start().starts_with('-') => "a duration that is not negative",
                _ => "a duration with a unit: ns, us, ms, s, min or h",
            };
            m.add(self, expected, help);
        }
        found
    }

    /// A rate that says per what.
    pub fn rate(&self, m: &mut Mistakes) -> Option<f64> {
        let found = self.scalar().and_then(Rate::parse);
        if found.is_none() {
            let number = self.scalar().and_then(|text| text.trim().parse::<f64>().ok()).filter(|x| x.is_finite() && *x >= 0.0);
            let help = number.map_or(String::new(), |number| format!("write {number}/s if these are per second"));
            m.add(self, "a rate that says per what: 80/s, 5/min or 100/h", help);
        }
        found.map(Rate::as_per_sec)
    }

    /// A number with its provenance: bare, or `{ value, source, range: [low, high] }`.
    pub fn param<T>(&self, m: &mut Mistakes, read: impl Fn(&Cursor<'a>, &mut Mistakes) -> Option<T>) -> Option<Param<T>> {
        if !self.is_map() {
            return read(self, m).map(Param::declared);
        }
        let fields = self.fields(&PARAM, m)?;
        let value = fields.need("value", "the number", m).and_then(|at| read(&at, m));
        let source = match fields.get("source") {
            Some(at) => at.word(SOURCES, m),
            None => Some(Source::Declared),
        };
        let range = match fields.get("range") {
            Some(at) => at.pair(m, read).map(Some),
            None => Some(None),
        };
        Some(Param { value: value?, source: source?, range: range? })
    }

    /// `[low, high]`.
    pub fn pair<T>(&self, m: &mut Mistakes, read: impl Fn(&Cursor<'a>, &mut Mistakes) -> Option<T>) -> Option<[T; 2]> {
        let items = self.items(m)?;
        let [low, high] = &items[..] else {
            m.add_found(self, format!("a list of {}", items.len()), "[low, high]: the two ends of a 90 % interval", "");
            return None;
        };
        let (low, high) = (read(low, m), read(high, m));
        Some([low?, high?])
    }

    /// The last step of the pointer, unless it is a list's index.
    fn last_key(&self) -> Option<&str> {
        self.place.rsplit('/').next().filter(|key| !key.is_empty() && whole(key).is_none())
    }

    /// What to say to somebody who quoted a number.
    fn without_quotes(&self) -> String {
        match &self.node.value {
            Value::Scalar { text, plain: false } if text.parse::<f64>().is_ok() => "write it without quotes".into(),
            _ => String::new(),
        }
    }
}

/// Keys of a number with its provenance.
pub const PARAM: Shape = Shape { name: "param", keys: &["value", "source", "range"] };

/// Words for where a number came from.
pub const SOURCES: &[(&str, Source)] = &[
    ("observed", Source::Observed),
    ("inferred", Source::Inferred),
    ("declared", Source::Declared),
    ("assumed", Source::Assumed),
];

/// A whole number in digits alone.
fn whole(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}
