//! Small helpers to take documents apart and to put overlays together.
//!
//! You are here: `models::manifests::tree`. Always true: what is put together keeps the line of what it was made from.

use crate::format::doc::{Key, Node, Value};
use crate::units::Nanos;

/// The value at the end of `path`.
pub(super) fn at<'n>(node: &'n Node, path: &[&str]) -> Option<&'n Node> {
    path.iter().try_fold(node, |node, key| node.get(key))
}

/// A scalar's text.
pub(super) fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

/// The text at the end of `path`.
pub(super) fn text_at<'n>(node: &'n Node, path: &[&str]) -> Option<&'n str> {
    at(node, path).and_then(text)
}

/// A whole number.
pub(super) fn count(node: &Node) -> Option<u32> {
    text(node)?.trim().parse().ok()
}

/// A list's items; none for anything else.
pub(super) fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

/// A map's entries; none for anything else.
pub(super) fn entries(node: Option<&Node>) -> &[(Key, Node)] {
    match node.map(|node| &node.value) {
        Some(Value::Map(entries)) => entries,
        _ => &[],
    }
}

/// A duration as protobuf and Go write them: `2s`, `0.25s`, `1m30s`, `250ms`.
pub(super) fn duration(node: &Node) -> Option<Nanos> {
    let mut rest = text(node)?.trim();
    let mut sum = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |next| digits + next);
        let ns = match &rest[digits..unit] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            _ => return None,
        };
        sum += number * ns;
        rest = &rest[unit..];
    }
    (sum < 1e18).then(|| Nanos::from_nanos(sum.round() as u64))
}

/// Names the keys of a map that are neither understood nor without effect on behaviour.
pub(super) fn list_others(node: Option<&Node>, known: &[&str], whose: &str, unmapped: &mut Vec<String>) {
    let others: Vec<&str> = entries(node).iter().map(|(key, _)| key.text.as_str()).filter(|key| !known.contains(key)).collect();
    if !others.is_empty() {
        unmapped.push(format!("{whose}: {}", others.join(", ")));
    }
}

/// A bare word or number.
pub(super) fn word(line: u64, text: impl ToString) -> Node {
    Node { line, value: Value::Scalar { text: text.to_string(), plain: true } }
}

/// A list.
pub(super) fn list(line: u64, items: Vec<Node>) -> Node {
    Node { line, value: Value::List(items) }
}

/// A map; it stands where its first value does.
pub(super) fn map(entries: Vec<(&str, Node)>) -> Node {
    let line = entries.iter().map(|(_, node)| node.line).find(|&line| line > 1).unwrap_or(1);
    let entries = entries.into_iter().map(|(key, node)| (Key { line: node.line, text: key.to_owned() }, node)).collect();
    Node { line, value: Value::Map(entries) }
}

/// A map of one entry.
pub(super) fn named(key: &str, node: Node) -> Node {
    Node { line: node.line, value: Value::Map(vec![(Key { line: node.line, text: key.to_owned() }, node)]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_manifests_are_read() {
        let read = |text: &str| duration(&word(1, text)).map(Nanos::as_nanos);
        assert_eq!(read("2s"), Some(2_000_000_000));
        assert_eq!(read("0.25s"), Some(250_000_000));
        assert_eq!(read("1m30s"), Some(90_000_000_000));
        assert_eq!(read("250ms"), Some(250_000_000));
        assert_eq!([read("2"), read("s"), read(""), read("2 weeks"), read("9999999999h")], [None; 5]);
    }
}
