//! Errors that a person can mend: where, what stood there, what was expected, what to do.
//!
//! You are here: `models::error`. Every reader of every crate reports with [`InputError`].

use std::fmt;

use thiserror::Error;

/// One mistake in an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputError {
    /// The file (or `standard input`), as the user named it.
    pub file: String,
    /// Line, from 1.
    pub line: Option<u64>,
    /// Where inside: a JSON pointer, or `byte 4711`.
    pub place: Option<String>,
    /// What stood there; empty if that says nothing more.
    pub found: String,
    /// What was expected.
    pub expected: String,
    /// How to mend it; empty if `expected` says it already.
    pub help: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(place) = &self.place {
            write!(f, ": {place}")?;
        }
        if !self.found.is_empty() {
            write!(f, "\n  found:    {}", self.found)?;
        }
        write!(f, "\n  expected: {}", self.expected)?;
        if !self.help.is_empty() {
            write!(f, "\n  help:     {}", self.help)?;
        }
        Ok(())
    }
}

/// All mistakes of an input in one go: at least one, at most 20 of them shown.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct InputErrors(pub Vec<InputError>);

impl fmt::Display for InputErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        for (i, error) in self.0.iter().take(SHOWN).enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "error: {error}")?;
        }
        if self.0.len() > SHOWN {
            write!(f, "\nand {} more", self.0.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl From<InputError> for InputErrors {
    fn from(error: InputError) -> Self {
        InputErrors(vec![error])
    }
}

/// The candidate nearest to `name` (Damerau-Levenshtein distance at most a third of its length, rounded up); `None` if none is near.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = name.chars().count().div_ceil(3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours. O(n·m) time.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    // The first row and column are the distances to nothing; all others are filled in below.
    let mut rows: Vec<Vec<usize>> = (0..=a.len()).map(|i| (i..=i + b.len()).collect()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let substitution = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            rows[i][j] = substitution.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                rows[i][j] = rows[i][j].min(rows[i - 2][j - 2] + 1);
            }
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not() {
        let names = ["workers", "replicas", "queue"];
        assert_eq!(nearest("wrokers", names), Some("workers"));
        assert_eq!(nearest("replica", names), Some("replicas"));
        assert_eq!(nearest("discipline", names), None);
    }

    #[test]
    fn an_error_says_where_what_and_how() {
        let error = InputError {
            file: "retry-storm.yaml".into(),
            line: Some(14),
            place: Some("/scenarios/0/faults/0/magnitude/add".into()),
            found: "\"250\"".into(),
            expected: "a duration with a unit: ns, us, ms, s or min".into(),
            help: "write add: 250ms".into(),
        };
        expect_test::expect![[r#"
            error: retry-storm.yaml:14: /scenarios/0/faults/0/magnitude/add
              found:    "250"
              expected: a duration with a unit: ns, us, ms, s or min
              help:     write add: 250ms"#]]
        .assert_eq(&InputErrors::from(error).to_string());
    }
}
