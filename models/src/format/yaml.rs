//! YAML as this program writes it: block style for structure, flow style for leaves, the same text for the same value.
//!
//! You are here: `models::format::yaml`. `encode` (and the writer of scenario files) builds a [`Yaml`], [`Yaml::render`] writes it.
//! Always true: what is written parses back to the same texts, quoted only where YAML would read them otherwise.
//! Not here: which keys there are.

use std::fmt::Write;

use crate::units::Nanos;

/// Longest line, where a value can be broken over several.
const WIDTH: usize = 120;

/// A value to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Yaml {
    /// A number, duration, rate or word: written as it is.
    Bare(String),
    /// A name or sentence: quoted where needed.
    Text(String),
    /// A list on one line (or folded).
    Flow(Vec<Yaml>),
    /// A map on one line (or folded).
    FlowMap(Vec<(String, Yaml)>),
    /// A list with an item a line.
    Block(Vec<Yaml>),
    /// A map with an entry a line.
    BlockMap(Vec<(String, Yaml)>),
}

impl Yaml {
    /// A bare token.
    pub fn bare(token: impl ToString) -> Self {
        Yaml::Bare(token.to_string())
    }

    /// A text, quoted where needed.
    pub fn text(text: impl Into<String>) -> Self {
        Yaml::Text(text.into())
    }

    /// The document: block style at its top, ending in a newline.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.block(&mut out, 0);
        if !out.ends_with('\n') {
            out.push('\n');
        }
        out
    }

    /// Writes the value as lines of their own at `indent`, the first of which has been indented already.
    fn block(&self, out: &mut String, indent: usize) {
        match self {
            Yaml::BlockMap(entries) if !entries.is_empty() => {
                for (i, (key, value)) in entries.iter().enumerate() {
                    if i > 0 {
                        pad(out, indent);
                    }
                    let key = as_key(key);
                    // An implicit key may be 1024 characters long; longer ones need the explicit form.
                    if key.len() > 1000 {
                        let _ = write!(out, "? {key}\n{:indent$}", "");
                        value.after_key(out, indent);
                    } else {
                        out.push_str(&key);
                        value.after_key(out, indent);
                    }
                }
            }
            Yaml::Block(items) if !items.is_empty() => {
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        pad(out, indent);
                    }
                    out.push_str("- ");
                    item.block(out, indent + 2);
                }
            }
            leaf => {
                leaf.folded(out, indent);
                out.push('\n');
            }
        }
    }

    /// Writes `: value` after a key that stands at `indent`.
    fn after_key(&self, out: &mut String, indent: usize) {
        out.push(':');
        match self {
            Yaml::BlockMap(entries) if !entries.is_empty() => {
                out.push('\n');
                pad(out, indent + 2);
                self.block(out, indent + 2);
            }
            Yaml::Block(items) if !items.is_empty() => {
                out.push('\n');
                pad(out, indent + 2);
                self.block(out, indent + 2);
            }
            leaf => {
                out.push(' ');
                leaf.folded(out, indent + 2);
                out.push('\n');
            }
        }
    }

    /// Writes a leaf: on the line that has begun if it fits, else folded between the entries of its outermost map or list.
    fn folded(&self, out: &mut String, indent: usize) {
        let line_start = out.rfind('\n').map_or(0, |at| at + 1);
        let mut flat = String::new();
        self.flat(&mut flat);
        if out.len() - line_start + flat.len() <= WIDTH {
            out.push_str(&flat);
            return;
        }
        let (open, parts, close) = match self {
            Yaml::Flow(items) | Yaml::Block(items) => {
                let parts = items.iter().map(|item| {
                    let mut part = String::new();
                    item.flat(&mut part);
                    part
                });
                ("[", parts.collect::<Vec<_>>(), " ]")
            }
            Yaml::FlowMap(entries) | Yaml::BlockMap(entries) => {
                let parts = entries.iter().map(|(key, value)| {
                    let mut part = format!("{}: ", as_key(key));
                    value.flat(&mut part);
                    part
                });
                ("{", parts.collect::<Vec<_>>(), " }")
            }
            Yaml::Bare(_) | Yaml::Text(_) => {
                out.push_str(&flat);
                return;
            }
        };
        out.push_str(open);
        let mut column = WIDTH;
        for (i, part) in parts.iter().enumerate() {
            let comma = if i + 1 < parts.len() { "," } else { close };
            if column + 1 + part.len() + comma.len() > WIDTH {
                out.push('\n');
                pad(out, indent);
                column = indent;
            } else {
                out.push(' ');
                column += 1;
            }
            let _ = write!(out, "{part}{comma}");
            column += part.len() + comma.len();
        }
    }

    /// Writes the value on one line, whatever its length.
    fn flat(&self, out: &mut String) {
        match self {
            Yaml::Bare(token) => out.push_str(token),
            Yaml::Text(text) => out.push_str(&quoted(text)),
            Yaml::Flow(items) | Yaml::Block(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    item.flat(out);
                }
                out.push(']');
            }
            Yaml::FlowMap(entries) | Yaml::BlockMap(entries) if entries.is_empty() => out.push_str("{}"),
            Yaml::FlowMap(entries) | Yaml::BlockMap(entries) => {
                out.push_str("{ ");
                for (i, (key, value)) in entries.iter().enumerate() {
                    let _ = write!(out, "{}{}: ", if i > 0 { ", " } else { "" }, as_key(key));
                    value.flat(out);
                }
                out.push_str(" }");
            }
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    let _ = write!(out, "{:indent$}", "");
}

/// `key` as YAML: as [`quoted`], but numbers stay bare, for every key is read as text.
fn as_key(key: &str) -> String {
    let number = key.bytes().all(|b| b.is_ascii_digit() || b == b'.') && key.parse::<f64>().is_ok();
    let duration = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.') && Nanos::parse(key).is_some();
    if number || duration { key.into() } else { quoted(key) }
}

/// `text` as YAML: bare if it is a plain word in every style and to every reader, else in double quotes.
fn quoted(text: &str) -> String {
    let wordlike = |c: char| c.is_ascii_alphanumeric() || "_-./>+".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '/');
    let special = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let spaced = text.split(' ').all(|word| !word.is_empty() && word.chars().all(wordlike));
    if starts && spaced && !special.contains(&text.to_ascii_lowercase().as_str()) {
        return text.into();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        let _ = match c {
            '"' => write!(out, "\\\""),
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\t' => write!(out, "\\t"),
            c if c.is_control() || ('\u{2028}'..='\u{2029}').contains(&c) || c == '\u{feff}' || c > '\u{fff0}' => {
                write!(out, "\\U{:08x}", c as u32)
            }
            c => write!(out, "{c}"),
        };
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::doc;

    #[test]
    fn structure_is_block_and_leaves_are_flow() {
        let leaf = || Yaml::FlowMap(vec![("value".into(), Yaml::bare(3)), ("source".into(), Yaml::bare("inferred"))]);
        let item = Yaml::BlockMap(vec![("weight".into(), Yaml::bare(1)), ("steps".into(), Yaml::Block(vec![leaf()]))]);
        let root = Yaml::BlockMap(vec![
            ("a->b".into(), Yaml::BlockMap(vec![("timeout".into(), leaf())])),
            ("paths".into(), Yaml::Block(vec![item])),
            ("none".into(), Yaml::Block(vec![])),
        ]);
        expect_test::expect![[r#"
            a->b:
              timeout: { value: 3, source: inferred }
            paths:
              - weight: 1
                steps:
                  - { value: 3, source: inferred }
            none: []
        "#]]
        .assert_eq(&root.render());
    }

    #[test]
    fn every_text_reads_back() {
        for text in
            ["", "a", "GET /x/{id}", "yes", "3", "1e3", "- a", "a: b", "a #b", " a", "a\nb", "\"", "\\", "é", "\u{1f600}", "#"]
        {
            let root = Yaml::BlockMap(vec![
                (text.into(), Yaml::text(text)),
                ("flow".into(), Yaml::FlowMap(vec![(text.into(), Yaml::text(text))])),
            ]);
            let read = doc::parse("m", root.render().as_bytes()).expect(text);
            for map in [&read, read.get("flow").expect("flow")] {
                let found = map.get(text).map(doc::Node::shown);
                let want = [
                    doc::Value::Scalar { text: text.into(), plain: true },
                    doc::Value::Scalar { text: text.into(), plain: false },
                ];
                let want = want.map(|value| Some(doc::Node { line: 0, value }.shown()));
                assert!(want.contains(&found), "{text:?}: {found:?}");
            }
        }
    }

    #[test]
    fn long_values_are_folded_and_long_keys_are_legal() {
        let long: Vec<_> = (0..60).map(|i| (format!("{i}"), Yaml::bare(format!("{i}ms")))).collect();
        let key = "k".repeat(5000);
        let root = Yaml::BlockMap(vec![(key.clone(), Yaml::BlockMap(vec![("table".into(), Yaml::FlowMap(long))]))]);
        let text = root.render();
        assert!(text.lines().all(|line| line.len() <= WIDTH || line.contains(&key)), "{text}");
        let read = doc::parse("m", text.as_bytes()).expect("it is YAML");
        assert_eq!(read.get(&key).and_then(|n| n.get("table")?.get("59")).map(doc::Node::shown), Some("59ms".into()));
    }
}
