//! Where tests find other people's files, and what they say when those are absent.
#![allow(dead_code, reason = "not every build of the tests uses every helper")]

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file or folder of the shared test data (`FORESHOCK_SHARED`, default `../shared`). `None`, with a word on stderr, where it is
/// absent; a panic if `FORESHOCK_REQUIRE_SHARED=1`.
pub fn shared(path: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("FORESHOCK_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let file = folder.join(path);
    if file.exists() {
        return Some(file);
    }
    assert!(
        std::env::var("FORESHOCK_REQUIRE_SHARED").as_deref() != Ok("1"),
        "{} is absent, and FORESHOCK_REQUIRE_SHARED=1 makes that a failure",
        file.display()
    );
    eprintln!("skipped: {} is absent", file.display());
    None
}
