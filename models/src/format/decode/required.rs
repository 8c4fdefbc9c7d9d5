//! Which dependencies are hard and which soft: an edge's `required`, put into the calls and publishes over it.
//!
//! You are here: `models::format::decode::required`. `required` is a word of files alone: a [`Model`] keeps what each call does
//! ([`Call::on_failure`](crate::system::Call::on_failure)), so a model that was read with it is written, and named by tokens, like one
//! that says `on_failure` at every call.
//! Always true: numbers that were learned or assumed, and those of files read before, yield to it; the same file's own do not.

use super::{Decoder, Purpose};
use crate::error::nearest;
use crate::format::cursor::{Cursor, Mistakes};
use crate::format::doc::Node;
use crate::param::{Param, Source};
use crate::system::{Call, EdgeName, Model, Step};

impl Decoder {
    /// Makes every call and publish over an edge that the document calls `required` fail its caller's request, or never do so.
    pub(super) fn require(&mut self, model: &mut Model, root: &Node) {
        // What is wrong with the form of the edges themselves has been said when they were read.
        let edges = Cursor::root(root).key("edges").and_then(|at| at.entries(&mut Mistakes::new("")));
        for (name, at) in edges.unwrap_or_default() {
            let (Some(edge), Some(at)) = (EdgeName::parse(name), at.key("required")) else { continue };
            if let Some(required) = at.boolean(&mut self.mistakes)
                && self.purpose == Purpose::Whole
            {
                self.require_edge(model, &edge, required, &at);
            }
        }
    }

    fn require_edge(&mut self, model: &mut Model, edge: &EdgeName, required: bool, at: &Cursor<'_>) {
        let declared = Param::declared(if required { 1.0 } else { 0.0 });
        let (mut used, mut felt) = (false, false);
        let steps = model.services.get_mut(&edge.from).into_iter().flat_map(|service| service.operations.values_mut());
        for step in steps.flat_map(|operation| &mut operation.paths).flat_map(|path| &mut path.steps) {
            visit_outcomes(step, &mut |to, site, on_failure| {
                if to != edge.to {
                    return;
                }
                used = true;
                let Some(on_failure) = on_failure else { return };
                felt = true;
                match self.stated.get(&site).filter(|_| on_failure.source == Source::Declared && *on_failure != declared) {
                    Some(place) => {
                        let found = format!("required: {required}, but {place} says {}", on_failure.value);
                        let help = "leave on_failure away there: each call and publish over the edge follows required";
                        self.mistakes.add_found(at, found, "the same in both places", help);
                    }
                    None => *on_failure = declared,
                }
            });
        }
        if !used {
            self.unused(model, edge, required, at);
        } else if required && !felt {
            let found = "required: true for calls whose failure nobody feels";
            let expected = "false: questions to a cache, its fills, and calls that nobody waits for fail no request";
            self.mistakes.add_found(
                at,
                found,
                expected,
                "say required: true of the edge to the cache's origin, if that is meant",
            );
        }
    }

    /// An edge that says `required` and that no call or publish uses. If an end of it does not exist, that is the mistake to tell.
    fn unused(&mut self, model: &Model, edge: &EdgeName, required: bool, at: &Cursor<'_>) {
        let uncalled = model.workload.contains_key(&edge.from) || model.topics.contains_key(&edge.from);
        let to_known = model.services.contains_key(&edge.to) || model.topics.contains_key(&edge.to);
        if !to_known || !uncalled && !model.services.contains_key(&edge.from) {
            return;
        }
        let help = if uncalled {
            format!("{} has no request of its own that could fail, or do without: leave required away", edge.from)
        } else {
            let callers = model.uses().into_iter().filter(|(from, _)| model.services.contains_key(*from));
            let used: Vec<String> = callers.map(|(from, one)| EdgeName::new(from, one.to.name()).to_string()).collect();
            let near = nearest(&edge.to_string(), used.iter().map(String::as_str));
            near.map_or(String::new(), |near| format!("did you mean {near}?"))
        };
        let found = format!("required: {required} on an edge that no call or publish uses");
        self.mistakes.add_found(at, found, "an edge that a service's paths call or publish over", help);
    }
}

type Visitor<'f> = dyn FnMut(&str, u32, Option<&mut Param<f64>>) + 'f;

/// Shows `f` what `step` calls or publishes to (service or topic, call site) and what a failure of it does to the caller, if its caller
/// ever feels one: a failed question to a cache is a miss, and who does not wait learns nothing.
pub(in crate::format) fn visit_outcomes(step: &mut Step, f: &mut Visitor<'_>) {
    match step {
        Step::Work(_) => {}
        Step::Call(call) => visit_call(call, f),
        Step::Parallel { branches, .. } => branches.iter_mut().for_each(|branch| visit_outcomes(branch, f)),
        Step::Lookup(lookup) => {
            for unfelt in [Some(&lookup.cache), lookup.fill.as_ref()].into_iter().flatten() {
                f(&unfelt.to.service, unfelt.site, None);
            }
            visit_call(&mut lookup.origin, f);
        }
        Step::Publish(publish) => f(&publish.to, publish.site, Some(&mut publish.on_failure)),
    }
}

fn visit_call(call: &mut Call, f: &mut Visitor<'_>) {
    f(&call.to.service, call.site, call.wait.then_some(&mut call.on_failure));
    if let Some(fallback) = &mut call.fallback {
        visit_call(fallback, f);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::format::{read_model, read_overlay, write_model};

    /// A shop whose calls say of `on_failure` what `calls` says for payment, and whose edges are `edges`.
    fn shop(payment: &str, edges: &str) -> String {
        format!(
            "version: 1
workload: {{ users: {{ to: web, open: {{ rate: 80/s }} }} }}
services:
  web:
    operations:
      buy:
        paths:
          - steps:
              - parallel: {{ branches: [{{ call: {payment} }}, {{ call: {{ to: ads, fallback: {{ to: payment }} }} }}] }}
              - lookup: {{ cache: redis, origin: db, fill: redis }}
              - publish: mailq
      log: {{ paths: [{{ steps: [{{ call: {{ to: audit, wait: false }} }}] }}] }}
  payment: {{ operations: {{ pay: {{ paths: [{{ steps: [{{ work: {{ constant: 1ms }} }}] }}] }} }} }}
  ads: {{ operations: {{ get: {{ paths: [{{ steps: [{{ work: {{ constant: 1ms }} }}] }}] }} }} }}
  redis: {{ cache: {{ capacity: 1, keys: 2 }}, operations: {{ get: {{ paths: [{{ steps: [{{ work: {{ constant: 1ms }} }}] }}] }} }} }}
  db: {{ operations: {{ get: {{ paths: [{{ steps: [{{ work: {{ constant: 1ms }} }}] }}] }} }} }}
  audit: {{ operations: {{ put: {{ paths: [{{ steps: [{{ work: {{ constant: 1ms }} }}] }}] }} }} }}
topics: {{ mailq: {{ consumer: audit, concurrency: 1 }} }}
edges: {{ {edges} }}
"
        )
        .replace("to: web,", "to: web.buy,")
    }

    /// `on_failure` of every call and publish of web that can fail its caller: (callee, value, whether declared).
    fn on_failures(model: &Model) -> Vec<(String, f64, bool)> {
        let mut found = Vec::new();
        let operations = model.clone().services.swap_remove("web").expect("there is web").operations;
        for mut step in operations.into_values().flat_map(|operation| operation.paths).flat_map(|path| path.steps) {
            visit_outcomes(&mut step, &mut |to, _, on_failure| {
                found.extend(on_failure.map(|p| (to.to_owned(), p.value, p.source == Source::Declared)));
            });
        }
        found
    }

    #[test]
    fn an_edge_speaks_for_every_call_and_publish_over_it() {
        let plain = read_model("m", shop("payment", "").as_bytes()).expect("a model");
        let was = [("payment", 1.0), ("ads", 1.0), ("payment", 1.0), ("db", 1.0), ("mailq", 0.0)];
        assert_eq!(on_failures(&plain), was.map(|(to, value)| (to.to_owned(), value, true)));
        let edges = "web->payment: { required: false }, web->db: { required: false }, web->mailq: { required: true }, \
                     web->redis: { required: false }, web->audit: { required: false }";
        let soft = read_model("m", shop("payment", edges).as_bytes()).expect("a model");
        let is = [("payment", 0.0), ("ads", 1.0), ("payment", 0.0), ("db", 0.0), ("mailq", 1.0)];
        assert_eq!(on_failures(&soft), is.map(|(to, value)| (to.to_owned(), value, true)));
    }

    #[test]
    fn what_is_written_says_the_same_at_each_call_and_has_the_same_name() {
        let short =
            read_model("m", shop("payment", "web->payment: { required: false, timeout: 1s }").as_bytes()).expect("a model");
        let text = write_model(&short);
        assert!(text.contains("on_failure: degrade") && !text.contains("required"), "{text}");
        let again = read_model("m", text.as_bytes()).expect("it is read again");
        assert_eq!((&again, write_model(&again)), (&short, text));
        let hard = read_model("m", shop("payment", "web->payment: { required: true, timeout: 1s }").as_bytes()).expect("a model");
        assert_ne!(write_model(&hard), write_model(&short), "other outcomes, another token");
    }

    #[test]
    fn what_was_learned_or_assumed_yields_and_what_agrees_may_stay() {
        for (payment, edges) in [
            ("{ to: payment, on_failure: { value: 1, source: assumed, range: [0.5, 1] } }", "web->payment: { required: false }"),
            (
                "{ to: payment, on_failure: { value: 0.4, source: inferred, range: [0.3, 0.6] } }",
                "web->payment: { required: false }",
            ),
            ("{ to: payment, on_failure: degrade }", "web->payment: { required: false }"),
        ] {
            let model = read_model("m", shop(payment, edges).as_bytes()).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(on_failures(&model)[0], ("payment".to_owned(), 0.0, true));
        }
    }

    fn refused(payment: &str, edges: &str, want: Expect) {
        want.assert_eq(&read_model("m.yaml", shop(payment, edges).as_bytes()).expect_err("it is wrong").to_string());
    }

    #[test]
    fn an_edge_that_cannot_keep_its_word_is_refused() {
        refused(
            "{ to: payment, on_failure: fail }",
            "web->payment: { required: false }",
            expect![[r#"
            error: m.yaml:19: /edges/web->payment/required
              found:    required: false, but /services/web/operations/buy/paths/0/steps/0/parallel/branches/0/call/on_failure says 1
              expected: the same in both places
              help:     leave on_failure away there: each call and publish over the edge follows required"#]],
        );
        refused(
            "payment",
            "web->paymnt: { required: true }",
            expect![[r#"
            error: m.yaml:19: /edges/web->paymnt
              found:    paymnt
              expected: a callee that exists: a service or topic
              help:     did you mean payment?"#]],
        );
        refused(
            "payment",
            "ads->payment: { required: true }",
            expect![[r#"
            error: m.yaml:19: /edges/ads->payment/required
              found:    required: true on an edge that no call or publish uses
              expected: an edge that a service's paths call or publish over
              help:     did you mean web->payment?"#]],
        );
        refused(
            "payment",
            "web->web: { required: true }",
            expect![[r#"
            error: m.yaml:19: /edges/web->web/required
              found:    required: true on an edge that no call or publish uses
              expected: an edge that a service's paths call or publish over
              help:     did you mean web->db?"#]],
        );
        refused(
            "payment",
            "users->web: { required: true }",
            expect![[r#"
            error: m.yaml:19: /edges/users->web/required
              found:    required: true on an edge that no call or publish uses
              expected: an edge that a service's paths call or publish over
              help:     users has no request of its own that could fail, or do without: leave required away"#]],
        );
        refused(
            "payment",
            "web->redis: { required: true }",
            expect![[r#"
            error: m.yaml:19: /edges/web->redis/required
              found:    required: true for calls whose failure nobody feels
              expected: false: questions to a cache, its fills, and calls that nobody waits for fail no request
              help:     say required: true of the edge to the cache's origin, if that is meant"#]],
        );
        refused(
            "payment",
            "web->payment: { required: sometimes }",
            expect![[r#"
            error: m.yaml:19: /edges/web->payment/required
              found:    sometimes
              expected: true or false"#]],
        );
    }

    /// What an overlay of these edges says of `shop`, whose payment has `on_failure`, and what the calls are then.
    fn overlaid(payment: &str, edges: &str) -> (Vec<String>, Model) {
        let mut model = read_model("m", shop(payment, "").as_bytes()).expect("a model");
        let overlay = read_overlay("known.yaml", format!("version: 1\nedges:\n  {edges}\n").as_bytes()).expect("an overlay");
        (overlay.apply(&mut model).iter().map(ToString::to_string).collect(), model)
    }

    #[test]
    fn an_overlay_overrules_what_was_there_and_says_what_the_traces_say() {
        let (said, model) = overlaid("{ to: payment, on_failure: fail }", "web->payment: { required: false }");
        assert_eq!((said, on_failures(&model)[0].1), (vec![], 0.0));
        let learned = "{ to: payment, on_failure: { value: 0.9, source: inferred, range: [0.8, 0.95] } }";
        let (said, model) = overlaid(learned, "web->payment: { required: false }");
        assert_eq!(on_failures(&model)[0], ("payment".to_owned(), 0.0, true));
        expect!["edges.web->payment.required: declared false, but 90 % of its failures failed buy (inferred, 90 % interval 80 % to 95 %)"].assert_eq(&said.join("\n"));
        let (said, _) = overlaid("payment", "web->nobody: { required: false }\n  payment->audit: { required: true }");
        expect![[r#"
            known.yaml:4: /edges/payment->audit/required: not applied: found required: true on an edge that no call or publish uses, expected an edge that a service's paths call or publish over
            known.yaml:3: /edges/web->nobody: not applied: found web->nobody, expected an edge between an entry, services and topics that the traces show"#]].assert_eq(&said.join("\n"));
        let wrong = read_overlay("known.yaml", b"version: 1\nedges: { a->b: { required: 1 } }\n").expect_err("no word for it");
        expect![[r#"
            error: known.yaml:2: /edges/a->b/required
              found:    1
              expected: true or false"#]]
        .assert_eq(&wrong.to_string());
    }

    #[test]
    fn paths_that_an_overlay_replaces_are_named_with_the_calls_that_are_lost() {
        let mut model = read_model("m", shop("payment", "").as_bytes()).expect("a model");
        let text = "version: 1
services:
  web: { operations: { buy: { paths: [{ steps: [{ call: payment.pay }] }] } } }
  ads: { operations: { get: { error_rate: 0.1 } } }
  db: { operations: { get: { paths: [{ steps: [{ work: { constant: 2ms } }] }] } } }
";
        let overlay = read_overlay("known.yaml", text.as_bytes()).expect("an overlay");
        let said: Vec<String> = overlay.apply(&mut model).iter().map(ToString::to_string).collect();
        expect![[r#"
            services.web.operations.buy.paths: 1 path declared, in place of 1 path that called payment.pay, ads.get, redis.get, db.get, mailq; no longer called: ads.get, redis.get, db.get, mailq (paths are replaced as a whole: write out what is to stay)
            services.db.operations.get.paths: 1 path declared, in place of 1 path without calls"#]].assert_eq(&said.join("\n"));
        assert_eq!(on_failures(&model), [("payment".to_owned(), 1.0, true)]);
    }
}
