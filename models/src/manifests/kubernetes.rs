//! Kubernetes workloads and autoscalers: replicas, when a replica counts as down, how many there may be.
//!
//! You are here: `models::manifests::kubernetes`. Replicas of workloads that are one service (versions of an app) add up. A readiness
//! probe becomes the health check: a replica is chosen until it has failed `failureThreshold` times, `periodSeconds` apart.

use std::collections::BTreeMap;

use super::tree::{at, count, items, list_others, map, text, text_at, word};
use super::{Draft, Identity, service};
use crate::format::doc::Node;
use crate::system::Model;

/// A Deployment, StatefulSet or the like.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Workload {
    identity: Identity,
    /// Its own name and what its labels call it.
    names: Vec<String>,
    /// Replicas, and the line; `None` if an autoscaler decides.
    replicas: Option<(u32, u64)>,
    /// (down after, up after) in seconds, and the line.
    readiness: Option<(u64, u64, u64)>,
}

/// A HorizontalPodAutoscaler.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scaler {
    identity: Identity,
    target: String,
    min: u32,
    max: u32,
    /// Percent of CPU.
    utilisation: Option<u32>,
    down_after_s: u64,
}

/// Keys that change nothing about how a service behaves under load.
const INERT: &[&str] = &["selector", "template", "revisionHistoryLimit", "serviceName", "volumeClaimTemplates", "updateStrategy"];
const INERT_POD: &[&str] = &[
    "containers",
    "serviceAccountName",
    "serviceAccount",
    "volumes",
    "nodeSelector",
    "affinity",
    "tolerations",
    "imagePullSecrets",
    "securityContext",
    "restartPolicy",
    "dnsPolicy",
    "schedulerName",
    "topologySpreadConstraints",
    "initContainers",
];
const INERT_CONTAINER: &[&str] = &[
    "name",
    "image",
    "imagePullPolicy",
    "args",
    "command",
    "env",
    "envFrom",
    "ports",
    "volumeMounts",
    "securityContext",
    "readinessProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "workingDir",
];

pub(super) fn workload(object: &Node, identity: Identity, unmapped: &mut Vec<String>) -> Workload {
    let spec = object.get("spec");
    let replicas = spec.and_then(|spec| spec.get("replicas"));
    if let Some(odd) = replicas.filter(|node| count(node).is_none()) {
        unmapped.push(format!("{identity}: replicas {}", odd.shown()));
    }
    list_others(spec, &[INERT, &["replicas"]].concat(), &identity.to_string(), unmapped);
    let mut names = vec![identity.name.clone()];
    for labels in [&["metadata", "labels"][..], &["spec", "template", "metadata", "labels"], &["spec", "selector", "matchLabels"]]
    {
        for key in ["app.kubernetes.io/name", "app", "k8s-app", "service"] {
            let label = at(object, labels).and_then(|labels| labels.get(key)).and_then(text);
            names.extend(label.filter(|label| !names.iter().any(|name| name == label)).map(str::to_owned));
        }
    }
    let pod = at(object, &["spec", "template", "spec"]);
    list_others(pod, INERT_POD, &format!("{identity}: pod"), unmapped);
    let mut readiness = None;
    for container in items(pod.and_then(|pod| pod.get("containers"))) {
        let whose = format!("{identity}: container {}", text_at(container, &["name"]).unwrap_or("without a name"));
        list_others(Some(container), INERT_CONTAINER, &whose, unmapped);
        if let Some(probe) = container.get("readinessProbe") {
            let number = |key, default: u64| probe.get(key).and_then(count).map_or(default, u64::from);
            // Kubernetes' own defaults.
            let (period, down, up) = (number("periodSeconds", 10), number("failureThreshold", 3), number("successThreshold", 1));
            // The container that is found out first decides.
            let found = (period * down, period * up, probe.line);
            readiness = readiness.filter(|first: &(u64, u64, u64)| first.0 <= found.0).or(Some(found));
        }
    }
    Workload { identity, names, replicas: replicas.and_then(|node| Some((count(node)?, node.line))), readiness }
}

pub(super) fn scaler(object: &Node, identity: Identity, unmapped: &mut Vec<String>) -> Option<Scaler> {
    let spec = object.get("spec")?;
    let Some(target) = text_at(spec, &["scaleTargetRef", "name"]) else {
        unmapped.push(format!("{identity}: it names no target"));
        return None;
    };
    let Some(max) = spec.get("maxReplicas").and_then(count) else {
        unmapped.push(format!("{identity}: it has no maxReplicas"));
        return None;
    };
    let mut utilisation = spec.get("targetCPUUtilizationPercentage").and_then(count);
    for metric in items(spec.get("metrics")) {
        let cpu = ["resource", "containerResource"]
            .into_iter()
            .find(|kind| text_at(metric, &[kind, "name"]) == Some("cpu"))
            .and_then(|kind| at(metric, &[kind, "target", "averageUtilization"]).and_then(count));
        match cpu {
            Some(percent) => utilisation = Some(percent),
            None => unmapped.push(format!("{identity}: a metric of type {}", text_at(metric, &["type"]).unwrap_or("unknown"))),
        }
    }
    list_others(
        Some(spec),
        &["scaleTargetRef", "minReplicas", "maxReplicas", "metrics", "targetCPUUtilizationPercentage", "behavior"],
        &identity.to_string(),
        unmapped,
    );
    let window = at(spec, &["behavior", "scaleDown", "stabilizationWindowSeconds"]).and_then(count);
    list_others(
        at(spec, &["behavior", "scaleDown"]),
        &["stabilizationWindowSeconds"],
        &format!("{identity}: scaleDown"),
        unmapped,
    );
    list_others(at(spec, &["behavior"]), &["scaleDown"], &format!("{identity}: behavior"), unmapped);
    let min = spec.get("minReplicas").and_then(count).unwrap_or(1);
    Some(Scaler {
        target: target.to_owned(),
        min,
        max: max.max(min),
        utilisation,
        // Kubernetes' default.
        down_after_s: u64::from(window.unwrap_or(300)),
        identity,
    })
}

/// Says what workloads and autoscalers mean for the services of a model.
pub(super) fn services(workloads: &[Workload], scalers: &[Scaler], model: &Model, draft: &mut Draft) {
    // (replicas, line) by service.
    let mut replicas: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
    let of = |workload: &Workload| {
        let names: Vec<&str> = workload.names.iter().map(String::as_str).collect();
        service(model, &names, &workload.identity.namespace)
    };
    for workload in workloads {
        let Some(name) = of(workload) else {
            draft.unmapped.push(format!("{}: no service of that name in the model", workload.identity));
            continue;
        };
        match workload.replicas {
            Some((0, _)) => draft.unmapped.push(format!("{}: 0 replicas, yet {name} was seen", workload.identity)),
            Some((n, line)) => {
                let sum = replicas.entry(name).or_insert((0, line));
                sum.0 = sum.0.saturating_add(n);
            }
            None => {}
        }
        if let Some((down, up, line)) = workload.readiness {
            let health = map(vec![("down_after", word(line, format!("{down}s"))), ("up_after", word(line, format!("{up}s")))]);
            let said = draft.services.entry(name.to_owned()).or_default();
            if !said.iter().any(|(key, _)| *key == "health_check") {
                said.push(("health_check", health));
            }
        }
    }
    for scaler in scalers {
        let found = workloads
            .iter()
            .find(|workload| workload.identity.name == scaler.target && workload.identity.namespace == scaler.identity.namespace)
            .and_then(of)
            .or_else(|| service(model, &[&scaler.target], &scaler.identity.namespace));
        let Some(name) = found else {
            draft.unmapped.push(format!("{}: no service {} in the model", scaler.identity, scaler.target));
            continue;
        };
        let line = scaler.identity.line;
        let Some(percent) = scaler.utilisation.filter(|percent| (1..=100).contains(percent)) else {
            let target =
                scaler.utilisation.map_or("without a target for CPU".to_owned(), |percent| format!("{percent} % of CPU"));
            draft.unmapped.push(format!("{}: an autoscaler {target}", scaler.identity));
            continue;
        };
        let now = replicas.get(name).map_or(model.services[name].replicas.value, |found| found.0);
        let inside = now.clamp(scaler.min, scaler.max);
        if inside != now || replicas.contains_key(name) {
            replicas.insert(name, (inside, replicas.get(name).map_or(line, |found| found.1)));
        }
        let autoscale = map(vec![
            ("target", word(line, f64::from(percent) / 100.0)),
            ("min", word(line, scaler.min)),
            ("max", word(line, scaler.max)),
            ("down_after", word(line, format!("{}s", scaler.down_after_s))),
        ]);
        draft.services.entry(name.to_owned()).or_default().push(("autoscale", autoscale));
    }
    for (name, (n, line)) in replicas {
        draft.services.entry(name.to_owned()).or_default().push(("replicas", word(line, n)));
    }
}
