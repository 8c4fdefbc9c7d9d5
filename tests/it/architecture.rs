//! The crate arrows and the house rules of ARCHITECTURE.md, read from the sources themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::support::root;

/// Each member, and the members it may depend on.
const ARROWS: [(&str, &[&str]); 4] =
    [("models", &[]), ("scenarios", &["models"]), ("sim", &["models", "scenarios"]), ("reports", &["models", "scenarios"])];

#[test]
fn arrows_between_crates_run_one_way_only() {
    for (member, may_use) in ARROWS {
        for used in members_used(&root().join(member).join("Cargo.toml")) {
            assert!(may_use.contains(&used.as_str()), "{member} depends on {used}, against ARCHITECTURE.md");
        }
    }
    let root_uses = members_used(&root().join("Cargo.toml"));
    for (member, _) in ARROWS {
        assert!(root_uses.contains(&member.to_owned()), "the command line does not use {member}");
    }
}

#[test]
fn members_open_no_path_and_read_no_clock_or_environment() {
    let forbidden =
        ["std::fs", "std::env", "env::var", "File::open", "Instant::now", "SystemTime", "std::net", "println!", "eprintln!"];
    for_each_source(|file, lines| {
        for (number, line) in lines {
            let found = forbidden.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{}:{number} uses {}: only the command line may", file.display(), found.unwrap_or(&""));
        }
    });
}

#[test]
fn nothing_depends_on_hash_order() {
    for_each_source(|file, lines| {
        for (number, line) in lines {
            let hashed = line.contains("HashMap") || line.contains("HashSet") || line.contains("RandomState");
            assert!(!hashed, "{}:{number}: use BTreeMap or IndexMap", file.display());
        }
    });
}

#[test]
fn every_source_file_begins_by_saying_what_it_is() {
    let silent = sources().into_iter().filter(|file| !fs::read_to_string(file).expect("readable").starts_with("//!"));
    assert_eq!(silent.collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

/// The members that a Cargo.toml names under `[dependencies]`.
fn members_used(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).expect("every member has a Cargo.toml");
    let mut section = "";
    let mut used = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if section.ends_with("dependencies") && !section.starts_with("workspace") {
            let name = line.split(['.', '=', ' ']).next().unwrap_or("").trim_start_matches("foreshock-");
            if ARROWS.iter().any(|(member, _)| *member == name) {
                used.push(name.to_owned());
            }
        }
    }
    used
}

/// Calls `check` with each source file of the members and its numbered lines, without comments and without what stands below
/// `#[cfg(test)]`.
fn for_each_source(check: impl Fn(&Path, &BTreeMap<usize, &str>)) {
    for file in sources() {
        let text = fs::read_to_string(&file).expect("readable");
        let code = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
        let lines = code.enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(i, line)| (i + 1, line));
        check(&file, &lines.collect());
    }
}

/// Every Rust file below the members' src folders.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = ARROWS.iter().map(|(member, _)| root().join(member).join("src")).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a source folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() >= 10, "the members' sources were not found");
    files.sort();
    files
}
