//! Which operation a text such as `front.end.GET /x` names, when services may hold dots and operations nearly anything.
//!
//! You are here: `models::names`. The file format resolves calls with it, commands resolve what users type.
//! Not here: the references themselves ([`OpRef`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::error::nearest;
use crate::system::{Model, OpRef};

/// The services of a model and their operations, by name.
#[derive(Clone, Debug, Default)]
pub struct OperationNames(BTreeMap<String, BTreeSet<String>>);

/// A text that names no operation: what was expected in its place, and what may have been meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// What was expected.
    pub expected: String,
    /// What may have been meant; empty if nothing is near.
    pub help: String,
}

impl OperationNames {
    /// The names of `model`.
    pub fn of(model: &Model) -> Self {
        let operations = |service: &crate::system::Service| service.operations.keys().cloned().collect();
        OperationNames(model.services.iter().map(|(name, service)| (name.clone(), operations(service))).collect())
    }

    /// Adds a service, if it is new.
    pub fn add_service(&mut self, service: &str) {
        self.0.entry(service.into()).or_default();
    }

    /// Adds an operation of a service, if it is new.
    pub fn add(&mut self, service: &str, operation: &str) {
        self.0.entry(service.into()).or_default().insert(operation.into());
    }

    /// The operation that `text` names: `service.operation` with the longest service name that fits, or a service alone that has
    /// exactly one operation.
    pub fn resolve(&self, text: &str) -> Result<OpRef, Unresolved> {
        for (dot, _) in text.rmatch_indices('.') {
            let (service, operation) = (&text[..dot], &text[dot + 1..]);
            if self.0.get(service).is_some_and(|operations| operations.contains(operation)) {
                return Ok(OpRef::new(service, operation));
            }
        }
        match self.0.get(text) {
            Some(operations) if operations.len() == 1 => {
                Ok(OpRef::new(text, operations.first().expect("it has exactly one").as_str()))
            }
            Some(operations) => Err(Unresolved {
                expected: format!("an operation, for {text} has {}", operations.len()),
                help: operations.first().map_or(String::new(), |first| format!("write {text}.{first}")),
            }),
            None => Err(self.unknown(text)),
        }
    }

    /// The operation `operation` of `service`, if both exist.
    pub fn exact(&self, service: &str, operation: &str) -> Result<OpRef, Unresolved> {
        match self.0.get(service) {
            Some(operations) if operations.contains(operation) => Ok(OpRef::new(service, operation)),
            _ => Err(self.unknown(&format!("{service}.{operation}"))),
        }
    }

    /// What to say of a text that names nothing: the nearest operation of the service it begins with, else the nearest of all.
    fn unknown(&self, text: &str) -> Unresolved {
        for (dot, _) in text.rmatch_indices('.') {
            let (service, operation) = (&text[..dot], &text[dot + 1..]);
            if let Some(operations) = self.0.get(service) {
                let near = nearest(operation, operations.iter().map(String::as_str)).or(operations.first().map(String::as_str));
                let help = near.map_or(String::new(), |near| format!("did you mean {service}.{near}?"));
                return Unresolved { expected: format!("an operation that {service} has"), help };
            }
        }
        let all: Vec<String> = self
            .0
            .iter()
            .flat_map(|(service, operations)| {
                operations.iter().map(move |operation| format!("{service}.{operation}")).chain([service.clone()])
            })
            .collect();
        let help = nearest(text, all.iter().map(String::as_str)).map_or(String::new(), |near| format!("did you mean {near}?"));
        Unresolved { expected: "service.operation of a service that exists".into(), help }
    }
}

impl Model {
    /// The operation that `text` names in this model; see [`OperationNames::resolve`].
    pub fn resolve(&self, text: &str) -> Result<OpRef, Unresolved> {
        OperationNames::of(self).resolve(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> OperationNames {
        let mut names = OperationNames::default();
        for (service, operation) in [("a", "b.c"), ("a", "x"), ("a.b", "c"), ("front.end", "GET /x.y")] {
            names.add(service, operation);
        }
        names
    }

    #[test]
    fn the_longest_service_name_wins() {
        let names = names();
        assert_eq!(names.resolve("a.b.c"), Ok(OpRef::new("a.b", "c")));
        assert_eq!(names.resolve("a.x"), Ok(OpRef::new("a", "x")));
        assert_eq!(names.resolve("front.end.GET /x.y"), Ok(OpRef::new("front.end", "GET /x.y")));
    }

    #[test]
    fn a_service_alone_names_its_only_operation() {
        let names = names();
        assert_eq!(names.resolve("front.end"), Ok(OpRef::new("front.end", "GET /x.y")));
        assert_eq!(names.resolve("a").map_err(|e| e.help), Err("write a.b.c".into()));
    }

    #[test]
    fn what_is_not_found_comes_with_the_nearest_name() {
        let names = names();
        assert_eq!(names.resolve("a.y").map_err(|e| e.help), Err("did you mean a.x?".into()));
        assert_eq!(names.resolve("frontend").map_err(|e| e.help), Err("did you mean front.end?".into()));
        assert_eq!(names.resolve("zzzzzzzz").map_err(|e| e.help), Err(String::new()));
    }
}
