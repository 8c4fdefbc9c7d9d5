//! The model's file format: one YAML file (JSON is YAML too), read with all its mistakes named, written so that it diffs well.
//!
//! You are here: `models::format`. Bytes become a tree with positions (`doc`), a cursor walks it and collects mistakes
//! (`cursor`), `decode` makes a [`Model`] of it, `encode` writes one through `yaml`, `overlay` lays what people know over it.
//! Always true: reading what was written gives the same model; no input makes it panic.
//! Not here: whether a model makes sense ([`crate::check`]), though [`read_model`] asks that too.

pub mod cursor;
mod decode;
pub mod doc;
mod encode;
mod overlay;
#[cfg(test)]
mod tests;
pub mod yaml;

use crate::check;
use crate::error::InputErrors;
use crate::format::cursor::{Cursor, Mistakes};
use crate::system::Model;

pub use decode::SHAPES;
pub use decode::steps::read_dist;
pub use encode::{canonical_text, percent, write_dist, write_model};
pub use overlay::{Contradiction, Overlay, read_overlay, timeouts_never_met};

/// JSON Schema (2020-12) of a model file.
pub const MODEL_SCHEMA: &str = include_str!("../../schema/model.schema.json");

/// The format version that is read and written.
pub const VERSION: u64 = 1;

/// Reads a model and checks that it makes sense. `name` is what errors call the file.
///
/// Returns all mistakes in one go, each with its line and JSON pointer: first those of form, and of sense once the form is right.
pub fn read_model(name: &str, bytes: &[u8]) -> Result<Model, InputErrors> {
    let root = doc::parse(name, bytes)?;
    let model = decode::model(name, &root)?;
    check::check(&model).map_err(|errors| doc::locate(name, &root, errors))?;
    Ok(model)
}

/// Whether the file at `at` can be read on: `false` for another version than [`VERSION`], whose keys would only be noise. A version
/// that is missing is a mistake, but no reason to stop.
pub fn read_version(at: &Cursor<'_>, m: &mut Mistakes) -> bool {
    match at.key("version") {
        Some(version) if !version.is_word(&VERSION.to_string()) => {
            m.add(&version, format!("version {VERSION}"), format!("this program reads version {VERSION} alone"));
            return false;
        }
        None if at.is_map() => {
            m.add_found(at, "no version", format!("version: {VERSION}"), format!("begin the file with version: {VERSION}"));
        }
        _ => {}
    }
    true
}
