//! A model without some of its services: nobody calls them any more, and what was only theirs goes with them.
//!
//! You are here: `scenarios::prune`, for `shrink`.
//! Always true: call sites keep their ids, so that what is left has the same luck as before.
//! Not here: which services do not matter (`reduce`), or whether what is left makes sense (`models::check`).

use models::system::{Call, Model, Step, Wait};

/// The model with these services alone. Calls to others are not made, topics that others consume and entries that lead to others are gone.
pub fn only(model: &Model, kept: &[String]) -> Model {
    let mut model = model.clone();
    model.services.retain(|name, _| kept.contains(name));
    let services: Vec<String> = model.services.keys().cloned().collect();
    model.topics.retain(|_, topic| services.contains(&topic.consumer.service));
    model.workload.retain(|_, entry| services.contains(&entry.to.service));
    let topics: Vec<String> = model.topics.keys().cloned().collect();
    let entries: Vec<String> = model.workload.keys().cloned().collect();
    let left = Left { services: &services, topics: &topics };
    for path in model.services.values_mut().flat_map(|service| service.operations.values_mut()).flat_map(|op| &mut op.paths) {
        path.steps = path.steps.drain(..).filter_map(|step| left.step(step)).collect();
    }
    model.edges.retain(|edge, _| {
        let callers = [&services, &topics, &entries];
        callers.iter().any(|names| names.contains(&edge.from)) && (services.contains(&edge.to) || topics.contains(&edge.to))
    });
    model
}

/// What is left to call.
struct Left<'a> {
    services: &'a [String],
    topics: &'a [String],
}

impl Left<'_> {
    fn has(&self, call: &Call) -> bool {
        self.services.contains(&call.to.service)
    }

    fn step(&self, step: Step) -> Option<Step> {
        match step {
            Step::Work(_) => Some(step),
            Step::Call(call) => self.call(call).map(Step::Call),
            Step::Publish(ref publish) => self.topics.contains(&publish.to).then_some(step),
            Step::Lookup(mut lookup) => match (self.has(&lookup.cache), self.has(&lookup.origin)) {
                (true, true) => {
                    lookup.fill = lookup.fill.filter(|fill| self.has(fill));
                    Some(Step::Lookup(lookup))
                }
                (true, false) => Some(Step::Call(lookup.cache)),
                (false, true) => Some(Step::Call(lookup.origin)),
                (false, false) => None,
            },
            Step::Parallel { wait, branches } => {
                let branches: Vec<Step> = branches.into_iter().filter_map(|branch| self.step(branch)).collect();
                let wait = match wait {
                    Wait::Quorum(n) => Wait::Quorum(n.min(branches.len() as u32)),
                    other => other,
                };
                (!branches.is_empty()).then_some(Step::Parallel { wait, branches })
            }
        }
    }

    fn call(&self, mut call: Call) -> Option<Call> {
        if !self.has(&call) {
            return None;
        }
        call.fallback = call.fallback.take().and_then(|fallback| self.call(*fallback)).map(Box::new);
        Some(call)
    }
}

#[cfg(test)]
mod tests {
    use models::format::read_model;

    use super::*;

    #[test]
    fn what_is_left_makes_sense_whatever_goes() {
        let text = "
version: 1
workload: { users: { to: web.get, open: { rate: 10/s } }, staff: { to: back.get, open: { rate: 1/s } } }
services:
  web: { operations: { get: { paths: [ { steps: [ { lookup: { cache: c.get, origin: db.q, fill: c.put } }, { publish: mails }, { parallel: { branches: [ { call: db.q }, { call: { to: back.get, fallback: c.get } } ] } } ] } ] } } }
  c: { cache: { capacity: 10, keys: 10, zipf: 1 }, operations: { get: { paths: [ { steps: [] } ] }, put: { paths: [ { steps: [] } ] } } }
  db: { operations: { q: { paths: [ { steps: [ { work: { constant: 1ms } } ] } ] } } }
  back: { operations: { get: { paths: [ { steps: [ { call: db.q } ] } ] } } }
  mailer: { operations: { m: { paths: [ { steps: [ { work: { constant: 1ms } } ] } ] } } }
topics: { mails: { consumer: mailer.m, concurrency: 4 } }
edges:
  web->db: { timeout: 1s }
  staff->back: { timeout: 1s }
  web->mails: { timeout: 1s }
";
        let model = read_model("shop", text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
        let names: Vec<String> = model.services.keys().cloned().collect();
        assert_eq!(only(&model, &names), model, "with all of them nothing changes");
        for mask in 1u32..1 << names.len() {
            let kept: Vec<String> =
                names.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, n)| n.clone()).collect();
            let left = only(&model, &kept);
            assert_eq!(left.services.keys().cloned().collect::<Vec<_>>(), kept);
            if !left.workload.is_empty() {
                models::check::check(&left).unwrap_or_else(|errors| panic!("{kept:?}: {errors}"));
            }
            let sites: Vec<u32> = model.uses().iter().map(|(_, one)| one.site).collect();
            assert!(left.uses().iter().all(|(_, one)| sites.contains(&one.site)), "sites keep their ids");
        }
        let small = only(&model, &["web".to_owned(), "db".to_owned()]);
        assert_eq!((small.topics.len(), small.workload.len(), small.edges.len()), (0, 1, 1));
    }
}
