//! What manifests say of a system: Kubernetes workloads and autoscalers, Istio routes and destinations.
//!
//! You are here: `models::manifests`. [`Manifests::read`] takes the documents of a file apart; [`Manifests::overlays`] says what they
//! mean for a model, as overlays that `format::overlay` lays over it like what a person wrote.
//! Always true: what a model cannot express, and what belongs to no service of the model, is listed by kind and name.
//! Not here: applying and contradictions (`format::overlay`).

mod istio;
mod kubernetes;
mod tree;

use std::collections::BTreeMap;

use crate::error::{InputError, InputErrors};
use crate::format::doc::{self, Node, Value};
use crate::format::{Overlay, read_overlay};
use crate::system::{EdgeName, Model};

use self::tree::{at, text};

/// What `--with` takes: a partial model, or manifests.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// A partial model.
    Overlay(Overlay),
    /// Manifests.
    Manifests(Manifests),
}

impl Known {
    /// Reads a file; manifests are told by their `apiVersion`.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Known, InputErrors> {
        match doc::parse_many(name, bytes) {
            Ok(documents) if documents.iter().any(|document| document.get("apiVersion").is_some()) => {
                Manifests::of(name, &documents).map(Known::Manifests)
            }
            _ => read_overlay(name, bytes).map(Known::Overlay),
        }
    }
}

/// What the manifests of a file say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifests {
    name: String,
    workloads: Vec<kubernetes::Workload>,
    scalers: Vec<kubernetes::Scaler>,
    routes: Vec<istio::Route>,
    destinations: Vec<istio::Destination>,
    /// What has no place in a model.
    unmapped: Vec<String>,
}

/// Overlays made of manifests, and what could not be made part of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapped {
    /// One for each service or set of edges, so that one which does not fit costs no other.
    pub overlays: Vec<Overlay>,
    /// Sentences.
    pub unmapped: Vec<String>,
}

/// An object's kind, name and namespace, for finding its service and for messages.
#[derive(Clone, Debug, Default, PartialEq)]
struct Identity {
    kind: String,
    name: String,
    namespace: String,
    line: u64,
}

impl Identity {
    fn of(object: &Node) -> Identity {
        let meta = |key| at(object, &["metadata", key]).and_then(text).unwrap_or_default().to_owned();
        let kind = object.get("kind").and_then(text).unwrap_or_default().to_owned();
        Identity { kind, name: meta("name"), namespace: meta("namespace"), line: object.line }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl Manifests {
    /// Reads the documents of a file; lists (`kind: List`, as `kubectl get` prints them) are unpacked.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Manifests, InputErrors> {
        Manifests::of(name, &doc::parse_many(name, bytes)?)
    }

    fn of(name: &str, documents: &[Node]) -> Result<Manifests, InputErrors> {
        let mut manifests = Manifests { name: name.to_owned(), ..Manifests::default() };
        let mut mistakes = Vec::new();
        let mut passed_over: BTreeMap<String, u64> = BTreeMap::new();
        for object in documents.iter().flat_map(unpacked) {
            let identity = Identity::of(object);
            if identity.kind.is_empty() || identity.name.is_empty() {
                mistakes.push(InputError {
                    file: name.to_owned(),
                    line: Some(object.line),
                    found: "a document without kind or metadata.name".into(),
                    expected: "a Kubernetes or Istio object".into(),
                    help: "a partial model goes into a file of its own".into(),
                    ..InputError::default()
                });
                continue;
            }
            match identity.kind.as_str() {
                "Deployment" | "StatefulSet" | "ReplicaSet" | "Rollout" => {
                    manifests.workloads.push(kubernetes::workload(object, identity, &mut manifests.unmapped));
                }
                "HorizontalPodAutoscaler" => {
                    manifests.scalers.extend(kubernetes::scaler(object, identity, &mut manifests.unmapped));
                }
                "VirtualService" => istio::routes(object, &identity, &mut manifests.routes, &mut manifests.unmapped),
                "DestinationRule" => {
                    manifests.destinations.extend(istio::destination(object, identity, &mut manifests.unmapped));
                }
                _ => *passed_over.entry(identity.kind).or_default() += 1,
            }
        }
        let kinds: Vec<String> = passed_over.iter().map(|(kind, n)| format!("{n} x {kind}")).collect();
        if !kinds.is_empty() {
            manifests.unmapped.push(format!("kinds that say nothing a model can hold: {}", kinds.join(", ")));
        }
        if mistakes.is_empty() { Ok(manifests) } else { Err(InputErrors(mistakes)) }
    }

    /// What the manifests mean for this model.
    pub fn overlays(&self, model: &Model) -> Mapped {
        let mut draft = Draft { unmapped: self.unmapped.clone(), ..Draft::default() };
        kubernetes::services(&self.workloads, &self.scalers, model, &mut draft);
        istio::edges(&self.routes, &self.destinations, model, &mut draft);
        let overlay = |section: &str, name: String, entries: Vec<(&str, Node)>| {
            let body = tree::map(entries);
            let root = tree::map(vec![("version", tree::word(1, "1")), (section, tree::named(&name, body))]);
            Overlay::from_node(&self.name, root)
        };
        let services = draft.services.into_iter().map(|(name, entries)| overlay("services", name, entries));
        let edges = draft.edges.into_iter().map(|(name, entries)| overlay("edges", name.to_string(), entries));
        Mapped {
            overlays: services.chain(edges).collect(),
            unmapped: draft.unmapped.into_iter().map(|what| format!("{}: not in the model: {what}", self.name)).collect(),
        }
    }
}

/// What is to be said of each service and edge.
#[derive(Default)]
struct Draft {
    services: BTreeMap<String, Vec<(&'static str, Node)>>,
    edges: BTreeMap<EdgeName, Vec<(&'static str, Node)>>,
    unmapped: Vec<String>,
}

/// The objects of a document: itself, or a list's items.
fn unpacked(document: &Node) -> Vec<&Node> {
    match (document.get("items").map(|items| &items.value), document.get("kind").and_then(text)) {
        (Some(Value::List(items)), Some(kind)) if kind.ends_with("List") => items.iter().collect(),
        _ => vec![document],
    }
}

/// The service of the model that goes by one of `names` (the first that fits) in `namespace`, if any.
fn service<'m>(model: &'m Model, names: &[&str], namespace: &str) -> Option<&'m str> {
    let fits = |service: &str, name: &str| {
        let host = name.strip_suffix(".svc.cluster.local").or_else(|| name.strip_suffix(".svc")).unwrap_or(name);
        let bare = host.split('.').next().unwrap_or(host);
        let here = service.strip_suffix(namespace).and_then(|service| service.strip_suffix('.'));
        service.eq_ignore_ascii_case(host)
            || here.is_some_and(|service| !namespace.is_empty() && service.eq_ignore_ascii_case(host))
            // `cart.shop` of the manifest is the model's `cart`.
            || host.split('.').count() == 2 && service.eq_ignore_ascii_case(bare)
    };
    names
        .iter()
        .filter(|name| !name.is_empty())
        .find_map(|name| model.services.keys().find(|service| fits(service, name)).map(String::as_str))
}
