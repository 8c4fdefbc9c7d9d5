//! A YAML (or JSON) text as a tree that knows where each of its values stands.
//!
//! You are here: `models::format::doc`. `cursor` walks what [`parse`] returns.
//! Always true: a tree is at most [`MAX_DEPTH`] deep and holds at most [`MAX_NODES`] values; no map holds a key twice.
//! Not here: what a value means (`decode`).

use std::borrow::Cow;
use std::collections::BTreeSet;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::error::{InputError, InputErrors};

/// Deepest nesting of maps and lists.
pub const MAX_DEPTH: usize = 64;

/// Most values of one file.
pub const MAX_NODES: usize = 1_000_000;

/// Longest file, in bytes.
pub const MAX_BYTES: usize = 64 << 20;

/// One value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Line, from 1.
    pub line: u64,
    /// What stands there.
    pub value: Value,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number, word or text.
    Scalar {
        /// Its text, unquoted.
        text: String,
        /// Whether it stood without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A map's key and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Line, from 1.
    pub line: u64,
    /// Its text.
    pub text: String,
}

impl Node {
    /// The value under `key`, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// What errors show of it: a scalar as written, of a list or map only that it is one.
    pub fn shown(&self) -> String {
        match &self.value {
            Value::Scalar { text, plain: true } if text.is_empty() => "nothing".into(),
            Value::Scalar { text, plain: true } => clipped(text),
            Value::Scalar { text, plain: false } => format!("{:?}", clipped(text)),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        }
    }
}

/// The first 80 characters of `text`.
fn clipped(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}

/// `key` as one step of a JSON pointer.
pub fn pointer_step(key: &str) -> Cow<'_, str> {
    if key.contains(['~', '/']) { Cow::Owned(key.replace('~', "~0").replace('/', "~1")) } else { Cow::Borrowed(key) }
}

/// Names the file in errors that know a JSON pointer alone, and gives each the line of the nearest thing that stands there.
pub fn locate(name: &str, root: &Node, errors: InputErrors) -> InputErrors {
    let located = errors.0.into_iter().map(|error| {
        let line = error.line.or_else(|| Some(line_of(root, error.place.as_deref()?)));
        InputError { file: name.into(), line, ..error }
    });
    InputErrors(located.collect())
}

/// The line of what `pointer` names, or of the deepest thing on the way to it that exists.
fn line_of(root: &Node, pointer: &str) -> u64 {
    let (mut node, mut line) = (root, root.line);
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let next = match &node.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.text == step).map(|(key, node)| (key.line, node)),
            Value::List(items) => step.parse::<usize>().ok().and_then(|i| items.get(i)).map(|node| (node.line, node)),
            Value::Scalar { .. } => None,
        };
        let Some((at, next)) = next else { break };
        (node, line) = (next, at);
    }
    line
}

/// Reads one YAML document. Anchors, aliases and tags are refused: a model file needs none, and aliases can be made to explode.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Node, InputErrors> {
    let mut documents = documents(name, bytes, false)?;
    documents.pop().ok_or_else(|| {
        InputErrors::from(InputError {
            file: name.into(),
            found: "no value".into(),
            expected: "a YAML or JSON map".into(),
            help: "begin with version: 1".into(),
            ..InputError::default()
        })
    })
}

/// Reads the YAML documents of a file one after the other, as Kubernetes manifests stand in one; empty ones are left out.
pub fn parse_many(name: &str, bytes: &[u8]) -> Result<Vec<Node>, InputErrors> {
    documents(name, bytes, true)
}

fn documents(name: &str, bytes: &[u8], many: bool) -> Result<Vec<Node>, InputErrors> {
    let refuse = |line: Option<u64>, found: String, expected: &str, help: &str| {
        InputErrors::from(InputError {
            file: name.into(),
            line,
            place: None,
            found,
            expected: expected.into(),
            help: help.into(),
        })
    };
    if bytes.len() > MAX_BYTES {
        return Err(refuse(None, format!("{} bytes", bytes.len()), &format!("at most {MAX_BYTES} bytes"), ""));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&b| b == b'\n').count() as u64;
            let found = format!("a byte that is not UTF-8 text, at byte {}", error.valid_up_to());
            return Err(refuse(Some(line), found, "YAML or JSON text", ""));
        }
    };
    if text.trim().is_empty() {
        return Err(refuse(None, "an empty file".into(), "a YAML or JSON map", "begin with version: 1"));
    }
    let mut builder = Builder { many, ..Builder::default() };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = error.marker();
            let found = format!("{}, at column {}", error.info(), at.col() + 1);
            let star = unquoted_star(text, at.line(), at.col()).filter(|_| error.info().contains("anchor"));
            let help = star.map_or(String::new(), |star| format!("an unquoted * begins an alias in YAML; quote it: \"{star}\""));
            refuse(Some(at.line() as u64), found, "YAML or JSON text", &help)
        })?;
        let line = span.start.line() as u64;
        builder.take(event, line).map_err(|problem| refuse(Some(line), problem.found, problem.expected, problem.help))?;
    }
    Ok(builder.done)
}

/// The word at or before a column (from 0) of a line (from 1) that begins with `*`, such as the edge pattern `*->b`.
fn unquoted_star(text: &str, line: usize, column: usize) -> Option<String> {
    let line: Vec<char> = text.lines().nth(line.checked_sub(1)?)?.chars().collect();
    let star = line.iter().take(column + 1).rposition(|c| *c == '*')?;
    let word: String = line[star..].iter().take_while(|c| !c.is_whitespace() && !",]}".contains(**c)).collect();
    Some(word.trim_end_matches(':').to_owned())
}

/// What is wrong with a document although it is YAML.
struct Problem {
    found: String,
    expected: &'static str,
    help: &'static str,
}

impl Problem {
    fn new(found: impl Into<String>, expected: &'static str, help: &'static str) -> Self {
        Problem { found: found.into(), expected, help }
    }
}

/// Builds the tree from the parser's events, without recursion.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    nodes: usize,
    /// Whether a second document is welcome.
    many: bool,
    done: Vec<Node>,
}

/// A list or map that has not ended yet.
struct Open {
    line: u64,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, seen: BTreeSet<String>, key: Option<Key> },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: u64) -> Result<(), Problem> {
        match event {
            Event::Alias(_) => Err(Problem::new("an alias", "the value itself", "write the value out: aliases are not read")),
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                Err(Problem::new("a tag", "a plain value", "leave the tag away"))
            }
            Event::Scalar(text, style, ..) => {
                self.close(Node { line, value: Value::Scalar { text: text.into(), plain: style == ScalarStyle::Plain } })
            }
            Event::SequenceStart(..) => self.open(line, Items::List(Vec::new())),
            Event::MappingStart(..) => self.open(line, Items::Map { entries: Vec::new(), seen: BTreeSet::new(), key: None }),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open { line, items: Items::List(items) }) => self.close(Node { line, value: Value::List(items) }),
                Some(Open { line, items: Items::Map { entries, .. } }) => self.close(Node { line, value: Value::Map(entries) }),
                None => Ok(()),
            },
            Event::DocumentStart(_) if !self.many && !self.done.is_empty() => {
                Err(Problem::new("a second document", "one document in a file", "leave the second --- away"))
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, line: u64, items: Items) -> Result<(), Problem> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Problem::new("nesting deeper than 64 levels", "at most 64 levels", ""));
        }
        self.open.push(Open { line, items });
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn close(&mut self, node: Node) -> Result<(), Problem> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Problem::new("more than 1000000 values", "at most 1000000 values", ""));
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            // What stands between two --- and is nothing.
            None if self.many && matches!(&node.value, Value::Scalar { text, .. } if text.is_empty() || text == "~") => {}
            None => self.done.push(node),
            Some(Items::List(items)) => items.push(node),
            Some(Items::Map { entries, seen, key }) => match (key.take(), node.value) {
                (Some(key), value) => entries.push((key, Node { line: node.line, value })),
                (None, Value::Scalar { text, .. }) => {
                    if !seen.insert(text.clone()) {
                        return Err(Problem::new(format!("the key {} a second time", clipped(&text)), "each key once", ""));
                    }
                    *key = Some(Key { line: node.line, text });
                }
                (None, _) => return Err(Problem::new("a list or map as a key", "a word or number as a key", "")),
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check_refused(text: &str, want: Expect) {
        want.assert_eq(&parse("m.yaml", text.as_bytes()).expect_err(text).to_string());
    }

    #[test]
    fn values_keep_their_lines_and_json_reads_alike() {
        let yaml = parse("m", b"# c\na:\n  - 1\n  - \"2\"\n").expect("yaml");
        let json = parse("m", b"\n{\"a\":\n\t[\n1,\n\"2\"]}").expect("json");
        for (root, lines) in [(yaml, [3, 4]), (json, [4, 5])] {
            let Some(Node { value: Value::List(items), .. }) = root.get("a") else { panic!("no list: {root:?}") };
            assert_eq!([items[0].line, items[1].line], lines);
            assert_eq!([items[0].shown(), items[1].shown()], ["1", "\"2\""]);
        }
    }

    #[test]
    fn what_yaml_allows_and_a_model_does_not_need_is_refused() {
        check_refused(
            "a: &x 1\nb: *x\n",
            expect![[r#"
            error: m.yaml:2
              found:    an alias
              expected: the value itself
              help:     write the value out: aliases are not read"#]],
        );
        check_refused(
            "a: 1\nto: [*->b, 2]\n",
            expect![[r#"
            error: m.yaml:2
              found:    while parsing node, found unknown anchor, at column 6
              expected: YAML or JSON text
              help:     an unquoted * begins an alias in YAML; quote it: "*->b""#]],
        );
        check_refused(
            "*->b: 1\n",
            expect![[r#"
            error: m.yaml:1
              found:    while parsing node, found unknown anchor, at column 1
              expected: YAML or JSON text
              help:     an unquoted * begins an alias in YAML; quote it: "*->b""#]],
        );
        check_refused(
            "to: *\n",
            expect![[r#"
            error: m.yaml:1
              found:    while scanning an anchor or alias, did not find expected alphabetic or numeric character, at column 5
              expected: YAML or JSON text
              help:     an unquoted * begins an alias in YAML; quote it: "*""#]],
        );
        check_refused(
            "a: !!str 1\n",
            expect![[r#"
            error: m.yaml:1
              found:    a tag
              expected: a plain value
              help:     leave the tag away"#]],
        );
        check_refused(
            "a: 1\na: 2\n",
            expect![[r#"
            error: m.yaml:2
              found:    the key a a second time
              expected: each key once"#]],
        );
        check_refused(
            "a: 1\n---\nb: 2\n",
            expect![[r#"
            error: m.yaml:2
              found:    a second document
              expected: one document in a file
              help:     leave the second --- away"#]],
        );
        check_refused(
            "[a]: 1\n",
            expect![[r#"
            error: m.yaml:1
              found:    a list or map as a key
              expected: a word or number as a key"#]],
        );
        check_refused(
            &"[".repeat(70),
            expect![[r#"
            error: m.yaml:1
              found:    nesting deeper than 64 levels
              expected: at most 64 levels"#]],
        );
        check_refused(
            "# nothing here\n",
            expect![[r#"
            error: m.yaml
              found:    no value
              expected: a YAML or JSON map
              help:     begin with version: 1"#]],
        );
        check_refused(
            "a: [1, 2\nb: 3\n",
            expect![[r#"
            error: m.yaml:2
              found:    illegal placement of ':' indicator, at column 2
              expected: YAML or JSON text"#]],
        );
    }

    #[test]
    fn an_error_with_a_pointer_finds_its_line() {
        let root = parse("m", b"a:\n  b/c:\n    - x\n    - y: 1\n").expect("yaml");
        assert_eq!(line_of(&root, "/a/b~1c/1/y"), 4);
        assert_eq!(line_of(&root, "/a/b~1c/1/absent/deeper"), 4);
        assert_eq!(line_of(&root, "/a/absent"), 1);
    }
}
