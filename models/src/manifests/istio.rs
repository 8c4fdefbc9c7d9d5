//! Istio routes and destinations: timeouts, retries, connection pools, outlier detection, balancing.
//!
//! You are here: `models::manifests::istio`. What they say of a host holds for every caller in the mesh: every edge from a service of the
//! model to the host's service.
//! Always true: Istio's `attempts` are the retries beside the first try; a route's timeout spans all tries, `perTryTimeout` one.
//! Source: istio.io, VirtualService and DestinationRule; Envoy's defaults of backoff (25 ms, tenfold at most, fully jittered).

use std::collections::BTreeSet;

use super::tree::{at, count, duration, items, list, list_others, map, text, text_at, word};
use super::{Draft, Identity, service};
use crate::format::doc::Node;
use crate::system::{EdgeName, Model, Service, Step};

/// What a VirtualService says of calls to one host.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Route {
    identity: Identity,
    host: String,
    /// It holds for some requests only.
    matched: bool,
    said: Vec<(&'static str, Node)>,
}

/// What a DestinationRule says of a host.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Destination {
    identity: Identity,
    host: String,
    /// Of the callers' edges.
    edge: Vec<(&'static str, Node)>,
    /// Of the service itself.
    service: Vec<(&'static str, Node)>,
}

/// Why Envoy retries, and what a model calls it.
const CAUSES: [(&str, &[&str]); 14] = [
    ("5xx", &["error", "overload", "timeout", "connection"]),
    ("gateway-error", &["overload", "timeout", "connection"]),
    ("reset", &["connection"]),
    ("reset-before-request", &["connection"]),
    ("connect-failure", &["connection"]),
    ("refused-stream", &["connection", "overload"]),
    ("unavailable", &["connection", "overload"]),
    ("resource-exhausted", &["overload"]),
    ("deadline-exceeded", &["timeout"]),
    ("internal", &["error"]),
    ("503", &["overload", "connection"]),
    ("504", &["timeout"]),
    ("500", &["error"]),
    ("502", &["connection"]),
];
/// What Istio retries on where nothing is said: connect-failure, refused-stream, unavailable, cancelled, retriable-status-codes.
const DEFAULT_ON: &str = "connect-failure,refused-stream,unavailable";

pub(super) fn routes(object: &Node, identity: &Identity, routes: &mut Vec<Route>, unmapped: &mut Vec<String>) {
    let Some(spec) = object.get("spec") else { return };
    list_others(Some(spec), &["hosts", "gateways", "http", "exportTo"], &identity.to_string(), unmapped);
    let gateways: Vec<&str> = items(spec.get("gateways")).iter().filter_map(text).collect();
    if !gateways.is_empty() && !gateways.contains(&"mesh") {
        unmapped.push(format!("{identity}: it holds at the gateways {} alone, not between services", gateways.join(", ")));
        return;
    }
    let hosts: Vec<&str> = items(spec.get("hosts")).iter().filter_map(text).collect();
    for http in items(spec.get("http")) {
        list_others(Some(http), &["match", "route", "timeout", "retries", "name"], &format!("{identity}: route"), unmapped);
        let said = policy(http, identity, unmapped);
        let mut targets: Vec<&str> =
            items(http.get("route")).iter().filter_map(|route| text_at(route, &["destination", "host"])).collect();
        if targets.is_empty() {
            targets.clone_from(&hosts);
        }
        targets.dedup();
        for host in targets.into_iter().filter(|_| !said.is_empty()) {
            let host = host.to_owned();
            routes.push(Route { identity: identity.clone(), host, matched: http.get("match").is_some(), said: said.clone() });
        }
    }
}

/// A route's timeouts and retries as keys of an edge.
fn policy(http: &Node, identity: &Identity, unmapped: &mut Vec<String>) -> Vec<(&'static str, Node)> {
    let mut said = Vec::new();
    let mut time = |node: Option<&Node>, what: &str| {
        let node = node?;
        let time = duration(node);
        if time.is_none() {
            unmapped.push(format!("{identity}: {what} {}", node.shown()));
        }
        // Nothing at all is Istio's word for no timeout.
        time.filter(|time| !time.is_zero()).map(|time| word(node.line, time))
    };
    let all = time(http.get("timeout"), "timeout");
    let one = time(at(http, &["retries", "perTryTimeout"]), "perTryTimeout");
    let backoff = time(at(http, &["retries", "backoff"]), "backoff");
    said.extend(all.clone().map(|all| ("deadline", all)));
    said.extend(one.or(all).map(|one| ("timeout", one)));
    let Some(retries) = http.get("retries") else { return said };
    list_others(Some(retries), &["attempts", "perTryTimeout", "retryOn", "backoff"], &format!("{identity}: retries"), unmapped);
    let Some(more) = retries.get("attempts").and_then(count) else { return said };
    let line = retries.line;
    let on = text_at(retries, &["retryOn"]).filter(|on| !on.trim().is_empty()).unwrap_or(DEFAULT_ON);
    let mut causes: Vec<&str> = Vec::new();
    for word in on.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match CAUSES.iter().find(|(name, _)| *name == word) {
            Some((_, known)) => causes.extend(known.iter().filter(|cause| !causes.contains(cause)).copied().collect::<Vec<_>>()),
            None => unmapped.push(format!("{identity}: retryOn {word}")),
        }
    }
    causes.sort_unstable();
    let mut retry = vec![("attempts", word(line, more.saturating_add(1)))];
    if more > 0 {
        let most = backoff.as_ref().and_then(duration).map_or_else(|| "250ms".to_owned(), |base| (base * 10).to_string());
        retry.push(("backoff", backoff.unwrap_or_else(|| word(line, "25ms"))));
        retry.push(("max", word(line, most)));
        retry.push(("jitter", word(line, "full")));
        if causes.is_empty() {
            unmapped.push(format!("{identity}: retries on nothing that a model knows"));
            return said;
        }
        retry.push(("on", list(line, causes.into_iter().map(|cause| word(line, cause)).collect())));
    }
    said.push(("retry", map(retry)));
    said
}

pub(super) fn destination(object: &Node, identity: Identity, unmapped: &mut Vec<String>) -> Option<Destination> {
    let spec = object.get("spec")?;
    let host = text_at(spec, &["host"])?.to_owned();
    let whose = identity.to_string();
    list_others(Some(spec), &["host", "trafficPolicy", "exportTo", "subsets"], &whose, unmapped);
    for subset in items(spec.get("subsets")).iter().filter(|subset| subset.get("trafficPolicy").is_some()) {
        unmapped.push(format!("{whose}: the policy of subset {}", text_at(subset, &["name"]).unwrap_or("without a name")));
    }
    let policy = spec.get("trafficPolicy");
    list_others(policy, &["connectionPool", "outlierDetection", "loadBalancer", "tls"], &whose, unmapped);
    let (mut edge, mut service) = (Vec::new(), Vec::new());
    if let Some(pool) = policy.and_then(|policy| policy.get("connectionPool")) {
        list_others(at(pool, &["tcp"]), &["maxConnections"], &format!("{whose}: tcp"), unmapped);
        let http = ["http1MaxPendingRequests", "http2MaxRequests"];
        list_others(at(pool, &["http"]), &http, &format!("{whose}: http"), unmapped);
        let number = |path: &[&str]| at(pool, path).filter(|node| count(node).is_some_and(|n| n > 0)).cloned();
        let waiting = number(&["http", "http1MaxPendingRequests"]);
        match (number(&["tcp", "maxConnections"]), waiting) {
            (Some(connections), waiting) => {
                let mut entries = vec![("connections", connections)];
                entries.extend(waiting.map(|waiting| ("waiting", waiting)));
                edge.push(("pool", map(entries)));
            }
            (None, Some(_)) => {
                unmapped.push(format!("{whose}: http1MaxPendingRequests, which never binds without maxConnections"))
            }
            (None, None) => {}
        }
        edge.extend(number(&["http", "http2MaxRequests"]).map(|most| ("max_in_flight", most)));
    }
    if let Some(outliers) = policy.and_then(|policy| policy.get("outlierDetection")) {
        let keys = ["consecutive5xxErrors", "consecutiveErrors", "consecutiveGatewayErrors"];
        let known = [&keys[..], &["baseEjectionTime"]].concat();
        list_others(Some(outliers), &known, &format!("{whose}: outlierDetection"), unmapped);
        // Istio's default is five; 0 turns it off.
        let failures = keys.iter().find_map(|key| outliers.get(key)).and_then(count).unwrap_or(5);
        let open = outliers.get("baseEjectionTime").and_then(duration).map_or_else(|| "30s".to_owned(), |time| time.to_string());
        if failures > 0 {
            let line = outliers.line;
            let breaker = vec![("consecutive", word(line, failures)), ("open", word(line, open)), ("probes", word(line, 1))];
            edge.push(("breaker", map(breaker)));
            unmapped.push(format!(
                "{whose}: outlierDetection puts out single replicas; in the model the caller's breaker opens for all of them"
            ));
        }
    }
    if let Some(simple) = policy.and_then(|policy| at(policy, &["loadBalancer", "simple"])) {
        let balance = match text(simple).unwrap_or_default() {
            "ROUND_ROBIN" => Some("round_robin"),
            "RANDOM" => Some("random"),
            // Envoy's least request takes the better of two.
            "LEAST_REQUEST" | "LEAST_CONN" => Some("two_choices"),
            _ => None,
        };
        match balance {
            Some(balance) => service.push(("balance", word(simple.line, balance))),
            None => unmapped.push(format!("{whose}: loadBalancer {}", simple.shown())),
        }
    }
    list_others(policy.and_then(|policy| policy.get("loadBalancer")), &["simple"], &format!("{whose}: loadBalancer"), unmapped);
    Some(Destination { identity, host, edge, service })
}

/// Says what routes and destinations mean for the edges and services of a model.
pub(super) fn edges(routes: &[Route], destinations: &[Destination], model: &Model, draft: &mut Draft) {
    let say = |draft: &mut Draft, identity: &Identity, host: &str, said: &[(&'static str, Node)]| -> Option<String> {
        let Some(to) = service(model, &[host], &identity.namespace) else {
            draft.unmapped.push(format!("{identity}: no service {host} in the model"));
            return None;
        };
        let mut any = said.is_empty();
        for edge in callers(model, to) {
            any = true;
            let entries = draft.edges.entry(edge).or_default();
            for (key, node) in said {
                match entries.iter_mut().find(|(known, _)| known == key) {
                    Some(before) => before.1 = node.clone(),
                    None => entries.push((key, node.clone())),
                }
            }
        }
        if !any {
            draft.unmapped.push(format!("{identity}: no service of the model calls {to}"));
        }
        Some(to.to_owned())
    };
    let mut seen: Vec<(String, &[(&'static str, Node)])> = Vec::new();
    // The route for all requests comes last and wins.
    let ordered = routes.iter().filter(|route| route.matched).chain(routes.iter().filter(|route| !route.matched));
    for route in ordered {
        let values = |said: &[(&str, Node)]| said.iter().map(|(key, node)| format!("{key}={}", shown(node))).collect::<Vec<_>>();
        let Some(to) = say(draft, &route.identity, &route.host, &route.said) else { continue };
        if seen.iter().any(|(other, said)| *other == to && values(said) != values(&route.said)) {
            draft.unmapped.push(format!(
                "{}: routes to {to} differ in timeout or retries; an edge has one policy, that of the last route, or of the one without a match",
                route.identity
            ));
        }
        seen.push((to, &route.said));
    }
    for destination in destinations {
        let Some(to) = say(draft, &destination.identity, &destination.host, &destination.edge) else { continue };
        draft.services.entry(to).or_default().extend(destination.service.iter().cloned());
    }
    draft.services.retain(|_, said| !said.is_empty());
    draft.edges.retain(|_, said| !said.is_empty());
}

/// A value in words, without its line.
fn shown(node: &Node) -> String {
    use crate::format::doc::Value;
    match &node.value {
        Value::Map(entries) => entries.iter().map(|(key, node)| format!("{}={};", key.text, shown(node))).collect(),
        Value::List(items) => items.iter().map(|node| shown(node) + ",").collect(),
        Value::Scalar { text, .. } => text.clone(),
    }
}

/// The edges by which services of the model call `to`: those with an entry, and those that only steps tell of.
fn callers(model: &Model, to: &str) -> BTreeSet<EdgeName> {
    fn calls(steps: &[Step], to: &str) -> bool {
        steps.iter().any(|step| match step {
            Step::Work(_) | Step::Publish(_) => false,
            Step::Call(call) => call.to.service == to,
            Step::Parallel { branches, .. } => calls(branches, to),
            Step::Lookup(lookup) => lookup.cache.to.service == to || lookup.origin.to.service == to,
        })
    }
    let in_steps =
        |service: &Service| service.operations.values().flat_map(|operation| &operation.paths).any(|path| calls(&path.steps, to));
    let named = model.edges.keys().filter(|edge| edge.to == to && model.services.contains_key(&edge.from)).cloned();
    let told = model.services.iter().filter(|(_, service)| in_steps(service)).map(|(from, _)| EdgeName::new(from, to));
    named.chain(told).collect()
}
