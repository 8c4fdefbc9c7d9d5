//! One service, one name: pod names, host names with namespace or port, RPC services, and spellings.
//!
//! You are here: `models::trace::canonical`. `read` asks before it assembles; `spans_csv` asks for the service of a pod.
//! Always true: the result does not depend on the order of the input; two names are joined only by a rule that says why, and every
//! joining is listed; what a person says (`--names`) wins over every rule.
//! Not here: which callee an address stands for because of who answered (`learn::resolve`).
//!
//! Rules, each careful: `orders-1` is not `orders` unless it is a pod's name, `redis-cart` is not `cart`, and `web.staging` is not
//! `web` if there is a `web.prod`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::Span;
use super::names::Names;
use super::summary::GraphSummary;
use crate::error::InputErrors;
use crate::format::cursor::{Cursor, Mistakes, Shape};
use crate::format::{doc, read_version};

/// What a person says about names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameRules {
    /// Spellings, each with the service it stands for; one that ends in `*` stands for all that begin so.
    spellings: Vec<(String, String)>,
    /// Names that no rule may change.
    keep: BTreeSet<String>,
}

const ROOT: Shape = Shape { name: "", keys: &["version", "names", "keep"] };

impl NameRules {
    /// Reads a file of names: `names: { cart: [cartservice, "cart-*"] }`, `keep: [orders-1, orders-2]`.
    pub fn read(name: &str, bytes: &[u8]) -> Result<NameRules, InputErrors> {
        let root = doc::parse(name, bytes)?;
        let mut m = Mistakes::new(name);
        let mut rules = NameRules::default();
        let at = Cursor::root(&root);
        if !read_version(&at, &mut m) {
            return m.or(rules);
        }
        if let Some(fields) = at.fields(&ROOT, &mut m) {
            let names = fields.get("names").and_then(|at| at.entries(&mut m)).unwrap_or_default();
            for (service, spellings) in names {
                for spelling in spellings.items(&mut m).unwrap_or_default() {
                    let Some(text) = spelling.text("a name, or the beginning of names and *", &mut m) else { continue };
                    let taken = rules.spellings.iter().find(|(other, to)| other == text && to != service);
                    if let Some((_, to)) = taken {
                        m.add(&spelling, format!("a name that stands for one service; it stands for {to} already"), "");
                    }
                    rules.spellings.push((text.to_owned(), service.to_owned()));
                }
            }
            for kept in fields.get("keep").and_then(|at| at.items(&mut m)).unwrap_or_default() {
                rules.keep.extend(kept.text("a name", &mut m).map(str::to_owned));
            }
        }
        m.or(rules)
    }

    /// The service that a name stands for by a person's word.
    fn given(&self, name: &str) -> Option<&str> {
        let exact = self.spellings.iter().find(|(spelling, _)| spelling == name);
        let begins = || {
            let longest = self.spellings.iter().filter(|(s, _)| s.strip_suffix('*').is_some_and(|s| name.starts_with(s)));
            longest.max_by_key(|(spelling, _)| spelling.len())
        };
        exact.or_else(begins).map(|(_, service)| service.as_str())
    }
}

/// Why a name was taken as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameRule {
    /// A person said so.
    Given,
    /// The name of a pod of a Deployment (two random parts) or StatefulSet (a number).
    Pod,
    /// A name with its namespace, or the host name of a Kubernetes service.
    Namespace,
    /// A host name with its port.
    Port,
    /// An RPC service, `package.Name`.
    Rpc,
    /// The same but for upper and lower case.
    Case,
}

impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameRule::Given => "as told",
            NameRule::Pod => "pod",
            NameRule::Namespace => "namespace",
            NameRule::Port => "port",
            NameRule::Rpc => "RPC service",
            NameRule::Case => "spelling",
        })
    }
}

/// A name that was taken as another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Merged {
    /// The service.
    pub into: String,
    /// The other name.
    pub from: String,
    /// Why.
    pub rule: NameRule,
}

/// What is known of a name before anything is joined.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Spans that carry it as their service.
    spans: u64,
    /// It is also the name of one of its own replicas.
    is_replica: bool,
}

/// Gives every service one name throughout spans and summaries; says which names were joined.
pub(crate) fn unify(
    shards: &mut [Vec<Span>],
    summaries: &mut [GraphSummary],
    rules: &NameRules,
    names: &mut Names,
) -> Vec<Merged> {
    let mut known: BTreeMap<Arc<str>, Known> = BTreeMap::new();
    let mut note = |name: &Arc<str>, spans: u64, is_replica: bool| {
        if name.is_empty() {
            return;
        }
        match known.get_mut(name) {
            Some(seen) => (seen.spans, seen.is_replica) = (seen.spans + spans, seen.is_replica | is_replica),
            None => {
                known.insert(name.clone(), Known { spans, is_replica });
            }
        }
    };
    // Neighbours mostly share their names, and equal names their place in memory: only changes are looked up.
    for shard in shards.iter() {
        let mut rest = shard.as_slice();
        while let Some(first) = rest.first() {
            let alike = |span: &&Span| Arc::ptr_eq(&span.service, &first.service) && Arc::ptr_eq(&span.instance, &first.instance);
            let run = rest.iter().take_while(alike).count().max(1);
            note(&first.service, run as u64, first.service == first.instance);
            let mut last: Option<&Arc<str>> = None;
            for peer in rest[..run].iter().filter_map(|span| span.peer.as_ref()) {
                if !last.is_some_and(|last| Arc::ptr_eq(last, peer)) {
                    note(peer, 0, false);
                }
                last = Some(peer);
            }
            rest = &rest[run..];
        }
    }
    for summary in summaries.iter() {
        for (from, to) in summary.calls.keys() {
            from.iter().chain([to]).for_each(|name| note(&names.get(name), 1, false));
        }
    }
    let (to, merged) = decide(&known, rules);
    if to.is_empty() {
        return merged;
    }
    let to: BTreeMap<&str, Arc<str>> = to.iter().map(|(from, into)| (&**from, names.get(into))).collect();
    for span in shards.iter_mut().flatten() {
        if let Some(into) = to.get(&*span.service) {
            span.service = into.clone();
        }
        if let Some(into) = span.peer.as_ref().and_then(|peer| to.get(&**peer)) {
            span.peer = Some(into.clone());
        }
    }
    for summary in summaries {
        rename(summary, |name| to.get(name).map(|into| into.to_string()));
    }
    merged
}

/// Gives the services of a summary other names; calls that become one add up.
fn rename(summary: &mut GraphSummary, to: impl Fn(&str) -> Option<String>) {
    let name = |name: String| to(&name).unwrap_or(name);
    for ((from, callee), call) in std::mem::take(&mut summary.calls) {
        summary.add((from.map(name), name(callee)), call);
    }
    summary.gateways = std::mem::take(&mut summary.gateways).into_iter().map(name).collect();
}

type Joined = BTreeMap<Arc<str>, String>;

/// Which names become which.
fn decide(known: &BTreeMap<Arc<str>, Known>, rules: &NameRules) -> (Joined, Vec<Merged>) {
    let mut joined: BTreeMap<Arc<str>, (String, NameRule)> = BTreeMap::new();
    let kept = |name: &str| rules.keep.contains(name);
    // What the name itself says.
    for (name, seen) in known.iter().filter(|(name, _)| !kept(name)) {
        let by_itself = match rules.given(name) {
            Some(service) => Some((service.to_owned(), NameRule::Given)),
            None => by_itself(name, *seen),
        };
        if let Some((into, rule)) = by_itself.filter(|(into, _)| **into != **name) {
            joined.insert(name.clone(), (into, rule));
        }
    }
    // The names as they are after that, with the spans behind them. A name that a person gave is one of them, spans or not.
    let mut present: BTreeMap<String, u64> = BTreeMap::new();
    for (name, seen) in known {
        let now = joined.get(name).map_or(&**name, |(into, _)| into);
        *present.entry(now.to_owned()).or_default() += seen.spans;
    }
    let given: BTreeSet<&str> = rules.spellings.iter().map(|(_, service)| service.as_str()).collect();
    let mut further: BTreeMap<String, (String, NameRule)> = BTreeMap::new();
    for (name, &spans) in &present {
        if kept(name) || given.contains(name.as_str()) {
            continue;
        }
        if let Some(found) = beside_others(name, spans, &present) {
            further.insert(name.clone(), found);
        }
    }
    let mut out = Joined::new();
    let mut merged = Vec::new();
    for name in known.keys() {
        let first = joined.get(name).cloned();
        let mut now = first.as_ref().map_or_else(|| name.to_string(), |(into, _)| into.clone());
        let mut rule = first.map(|(_, rule)| rule);
        // A host with port and namespace takes two steps; no chain is longer than there are rules.
        for _ in 0..4 {
            let Some((next, why)) = further.get(&now) else { break };
            rule = rule.or(Some(*why));
            now = next.clone();
        }
        if let Some(rule) = rule.filter(|_| now != **name) {
            merged.push(Merged { into: now.clone(), from: name.to_string(), rule });
            out.insert(name.clone(), now);
        }
    }
    merged.sort();
    (out, merged)
}

/// What a name alone tells: a pod's, or the whole host name of a Kubernetes service or pod.
fn by_itself(name: &str, seen: Known) -> Option<(String, NameRule)> {
    if let Some(service) = deployment_of(name) {
        return Some((service.to_owned(), NameRule::Pod));
    }
    if seen.is_replica
        && let Some(service) = stateful_set_of(name)
    {
        return Some((service.to_owned(), NameRule::Pod));
    }
    let (host, port) = name.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or((name, ""), |(host, port)| (host, port));
    let inside = host.strip_suffix(".cluster.local").unwrap_or(host).strip_suffix(".svc")?;
    let labels: Vec<&str> = inside.split('.').collect();
    let rule = if port.is_empty() { NameRule::Namespace } else { NameRule::Port };
    match labels[..] {
        [service, namespace] => Some((format!("{service}.{namespace}"), rule)),
        // A pod behind a headless service.
        [_, service, namespace] => Some((format!("{service}.{namespace}"), NameRule::Pod)),
        _ => None,
    }
}

/// What a name is beside the others that are there (`present`: names and the spans that carry them).
fn beside_others(name: &str, spans: u64, present: &BTreeMap<String, u64>) -> Option<(String, NameRule)> {
    let same_but_case = |wanted: &str| -> Vec<(&String, &u64)> {
        present.iter().filter(|(other, _)| other.eq_ignore_ascii_case(wanted) && *other != name).collect()
    };
    let best = |wanted: &str| {
        let found = same_but_case(wanted).into_iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)))?;
        // A callee without spans is no reason to rename a service that has some.
        (spans == 0 || *found.1 > 0).then(|| found.0.clone())
    };
    if let Some((host, _)) = name.rsplit_once(':').filter(|(host, port)| is_port(port) && is_host_name(host)) {
        let host = host.strip_suffix(".").unwrap_or(host);
        return best(host).map(|into| (into, NameRule::Port)).or_else(|| {
            // `cart.shop:7070` beside `cart`.
            let (into, _) = without_namespace(host, spans, present)?;
            Some((into, NameRule::Port))
        });
    }
    if let Some(found) = without_namespace(name, spans, present) {
        return Some(found);
    }
    // `oteldemo.CartService`: the last part is a type's name, which a package's or a host's never is.
    if let Some((_, last)) = name.rsplit_once('.').filter(|(_, last)| last.starts_with(|c: char| c.is_ascii_uppercase()))
        && spans == 0
        && let Some(into) = best(last)
    {
        return Some((into, NameRule::Rpc));
    }
    // Of several spellings, the one with the most spans stays; of equals, the last in order, which has the most lower case.
    let rival = same_but_case(name).into_iter().max_by(|a, b| a.1.cmp(b.1).then(a.0.cmp(b.0)))?;
    let stays = (spans, name) > (*rival.1, rival.0.as_str());
    (!stays).then(|| (rival.0.clone(), NameRule::Case))
}

/// `cart.shop` is `cart` where there is a `cart` and no second `cart.…`; if both carry spans, only where other names show that `shop`
/// is a namespace. The other way round, a bare `cart` without spans is `cart.shop` if that alone has them.
fn without_namespace(name: &str, spans: u64, present: &BTreeMap<String, u64>) -> Option<(String, NameRule)> {
    let is_label = |text: &str| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !text.is_empty() && text.bytes().all(allowed) && text.starts_with(|c: char| c.is_ascii_lowercase())
    };
    let split = |name: &'_ str| -> Option<(String, String)> {
        let (service, space) = name.split_once('.')?;
        (is_label(service) && is_label(space)).then(|| (service.to_owned(), space.to_owned()))
    };
    let Some((service, space)) = split(name) else {
        let with: Vec<(&String, &u64)> =
            present.iter().filter(|(other, _)| split(other).is_some_and(|(service, _)| service == name)).collect();
        return match with[..] {
            [(only, &carried)] if spans == 0 && carried > 0 => Some((only.clone(), NameRule::Namespace)),
            _ => None,
        };
    };
    let &bare = present.get(&service)?;
    let rivals = present.keys().filter(|other| split(other).is_some_and(|(s, _)| s == service)).count();
    let shared = present.keys().filter(|other| split(other).is_some_and(|(_, s)| s == space)).count() > 1;
    if rivals > 1 || spans > 0 && bare > 0 && !shared || spans > 0 && bare == 0 {
        return None;
    }
    Some((service, NameRule::Namespace))
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// A name, not an address and not this machine.
fn is_host_name(text: &str) -> bool {
    text != "localhost" && !text.contains(':') && text.bytes().any(|b| b.is_ascii_alphabetic())
}

/// What Kubernetes draws the random parts of names from: no vowels, so that no words come out, and nothing that looks like another.
fn is_random(text: &str) -> bool {
    text.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b))
}

/// `cart` of the pod `cart-579f59597d-wc2lz`: a ReplicaSet's hash and five random letters.
pub(crate) fn deployment_of(pod: &str) -> Option<&str> {
    let (rest, suffix) = pod.rsplit_once('-')?;
    let (service, hash) = rest.rsplit_once('-')?;
    let is_hash = (6..=10).contains(&hash.len()) && is_random_hash(hash);
    (!service.is_empty() && suffix.len() == 5 && is_random(suffix) && is_hash).then_some(service)
}

/// A hash is drawn like the rest; older clusters write plain numbers and hexadecimal digits. One of letters alone must be long.
fn is_random_hash(hash: &str) -> bool {
    let digits = hash.bytes().filter(u8::is_ascii_digit).count();
    let of_letters_and_digits = hash.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    of_letters_and_digits && (digits >= 2 || digits >= 1 && is_random(hash) || hash.len() >= 9 && is_random(hash))
}

/// `db` of the pod `db-0`.
fn stateful_set_of(pod: &str) -> Option<&str> {
    let (service, ordinal) = pod.rsplit_once('-')?;
    let is_ordinal = (1..=3).contains(&ordinal.len()) && ordinal.bytes().all(|b| b.is_ascii_digit());
    (!service.is_empty() && is_ordinal && (ordinal == "0" || !ordinal.starts_with('0'))).then_some(service)
}

/// The service of something that is known to be a pod's name.
pub(crate) fn service_of_pod(pod: &str) -> &str {
    deployment_of(pod).or_else(|| stateful_set_of(pod)).unwrap_or(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with their spans, `!` before one that is its own replica's name; and what became of them.
    fn joins(names: &[(&str, u64)], rules: &NameRules) -> Vec<String> {
        let known = names.iter().map(|&(name, spans)| {
            let is_replica = name.starts_with('!');
            (Arc::from(name.trim_start_matches('!')), Known { spans, is_replica })
        });
        let (_, merged) = decide(&known.collect(), rules);
        merged.iter().map(|m| format!("{} = {} ({})", m.from, m.into, m.rule)).collect()
    }

    fn check(names: &[(&str, u64)], expected: &[&str]) {
        assert_eq!(joins(names, &NameRules::default()), expected, "{names:?}");
    }

    #[test]
    fn names_of_one_service_are_joined_by_rule() {
        check(
            &[("cartservice-579f59597d-wc2lz", 4), ("cartservice-579f59597d-bb5xx", 9)],
            &["cartservice-579f59597d-bb5xx = cartservice (pod)", "cartservice-579f59597d-wc2lz = cartservice (pod)"],
        );
        check(
            &[("productcatalogservice-668d5f85fb-jhwx9", 4), ("paymentservice-9cdb6588f-554sm", 1)],
            &[
                "paymentservice-9cdb6588f-554sm = paymentservice (pod)",
                "productcatalogservice-668d5f85fb-jhwx9 = productcatalogservice (pod)",
            ],
        );
        check(&[("!db-0", 3), ("!db-1", 3)], &["db-0 = db (pod)", "db-1 = db (pod)"]);
        check(&[("cart", 3), ("cart.shop", 0)], &["cart.shop = cart (namespace)"]);
        check(&[("cart", 3), ("cart.shop.svc.cluster.local", 0)], &["cart.shop.svc.cluster.local = cart (namespace)"]);
        check(&[("cart", 3), ("cart.shop.svc:7070", 0)], &["cart.shop.svc:7070 = cart (port)"]);
        check(&[("cart", 3), ("cart-0.cart.shop.svc.cluster.local", 0)], &["cart-0.cart.shop.svc.cluster.local = cart (pod)"]);
        check(&[("reviews.bookinfo", 3), ("reviews", 0)], &["reviews = reviews.bookinfo (namespace)"]);
        check(&[("web", 5), ("web.shop", 5), ("cart.shop", 5)], &["web.shop = web (namespace)"]);
        check(&[("cartservice", 3), ("cartservice:7070", 0)], &["cartservice:7070 = cartservice (port)"]);
        check(&[("cartservice", 3), ("oteldemo.CartService", 0)], &["oteldemo.CartService = cartservice (RPC service)"]);
        check(
            &[("CartService", 3), ("cartservice", 8), ("CARTSERVICE", 8)],
            &["CARTSERVICE = cartservice (spelling)", "CartService = cartservice (spelling)"],
        );
    }

    #[test]
    fn names_that_only_look_alike_stay_apart() {
        check(&[("orders-1", 5), ("orders-2", 5), ("orders", 5)], &[]);
        check(&[("redis-cart", 0), ("cart", 9)], &[]);
        check(&[("web", 0), ("web.staging", 5), ("web.prod", 5)], &[]);
        check(&[("web", 9), ("web.staging", 0), ("web.prod", 0)], &[]);
        check(&[("redis", 5), ("redis.cart", 5)], &[]);
        check(&[("10.0.0.7:80", 0), ("10.0.0.7", 0)], &[]);
        check(&[("Galactus.Postgres:98321", 0), ("db", 3)], &[]);
        check(&[("oteldemo.CartService", 5), ("cartservice", 5)], &[]);
        check(&[("user-service", 1), ("user-service-manager-admin", 1), ("a-b-c", 1), ("v1-release-build", 1)], &[]);
    }

    #[test]
    fn what_a_person_says_wins() {
        let text = b"version: 1\nnames:\n  cart: [cartservice, 'basket-*']\nkeep: ['web.shop', 'api-579f59597d-wc2lz']\n";
        let rules = NameRules::read("names.yaml", text).expect("it is well formed");
        let names =
            [("cartservice", 3), ("basket-blue", 2), ("Cart", 1), ("web", 4), ("web.shop", 0), ("api-579f59597d-wc2lz", 1)];
        assert_eq!(
            joins(&names, &rules),
            ["Cart = cart (spelling)", "basket-blue = cart (as told)", "cartservice = cart (as told)",]
        );
        let error = NameRules::read("names.yaml", b"version: 1\nnames: { a: [x], b: [x] }\nkep: []\n").expect_err("two mistakes");
        expect_test::expect![[r#"
            error: names.yaml:2: /names/b/0
              found:    x
              expected: a name that stands for one service; it stands for a already
            error: names.yaml:3: /kep
              found:    unknown key kep
              expected: one of version, names, keep
              help:     did you mean keep?"#]]
        .assert_eq(&error.to_string());
    }
}
