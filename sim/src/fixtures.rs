//! Systems and faults that the tests of this crate share.

use models::system::Model;
use scenarios::scenario::Scenario;

use crate::program::Program;

/// A shop with most of what people have.
pub(crate) const MALL: (&str, &str) = (include_str!("fixtures/mall.yaml"), include_str!("fixtures/mall-faults.yaml"));
/// Every policy, resource, workload and most faults of the vocabulary.
pub(crate) const EVERYTHING: (&str, &str) =
    (include_str!("fixtures/everything.yaml"), include_str!("fixtures/everything-faults.yaml"));

/// Twenty services at 200 requests a second, and a retry storm on them.
pub(crate) const TWENTY: (&str, &str) = (include_str!("fixtures/twenty.yaml"), include_str!("fixtures/twenty-faults.yaml"));

pub(crate) fn program((model, _): (&str, &str)) -> Program {
    let model: Model = models::format::read_model("fixture", model.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    Program::compile(&model, 0).expect("it compiles")
}

pub(crate) fn faults((_, scenarios): (&str, &str)) -> Vec<Scenario> {
    scenarios::format::read_scenarios("fixture", scenarios.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}
