//! `schema`: the published file formats.

use models::format::MODEL_SCHEMA;
use reports::RANKING_SCHEMA;
use scenarios::checks::CHECKS_SCHEMA;
use scenarios::format::SCENARIOS_SCHEMA;

use crate::args::{Format, Schema};
use crate::exit::Failure;
use crate::show;

/// Prints a schema.
pub fn act(args: &Schema) -> Result<(), Failure> {
    show::text(match args.format {
        Format::Model => MODEL_SCHEMA,
        Format::Scenarios => SCENARIOS_SCHEMA,
        Format::Checks => CHECKS_SCHEMA,
        Format::Ranking => RANKING_SCHEMA,
    })
}
