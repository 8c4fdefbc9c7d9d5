//! Spans: what a tracing library in every simulated service would have sent to a collector.
//!
//! You are here: `sim::spans`. A run is traced with [`crate::Prepared::trace`]; [`Spans`] writes what it recorded as OTLP JSON, a request a
//! line, as the OpenTelemetry Collector's file exporter does.
//! Always true: ids are mixes of the requests' keys, so the same run has the same spans, byte for byte. Spans that were open when the run
//! ended, and those of requests lost in a crash, are missing, as they are missing in a real recording.
//! Not here: what is recorded when (`des::tracer`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use models::rng::mix;
use models::system::{Cause, Model};
use serde_json::{Value, json};

use crate::des::{Ended, OPEN, Record, Side, Tracer};
use crate::program::{NONE, TargetP};
use crate::run::Finished;

/// What is traced, and how its spans look.
#[derive(Clone, Debug)]
pub struct SpanOptions {
    /// Share of traces that are kept: head sampling, decided by each trace's id.
    pub share: f64,
    /// No trace is begun once there are so many spans (they take about 150 bytes each).
    pub most: usize,
    /// Time 0 of the run, in nanoseconds since 1970.
    pub epoch_ns: u64,
    /// Whether clients say how many tries went before (`http.request.resend_count`).
    pub resend_counts: bool,
    /// Whether consumers start traces of their own, with a link to the message, instead of going on with its trace.
    pub linked_consumers: bool,
    /// Services that send no spans; their callers do.
    pub silent: BTreeSet<String>,
}

impl Default for SpanOptions {
    /// All of up to 20 million spans, from the start of 2026 on.
    fn default() -> Self {
        SpanOptions {
            share: 1.0,
            most: 20_000_000,
            epoch_ns: 1_767_225_600_000_000_000,
            resend_counts: true,
            linked_consumers: false,
            silent: BTreeSet::new(),
        }
    }
}

impl SpanOptions {
    pub(crate) fn tracer(&self) -> Tracer {
        let keep = if self.share >= 1.0 { u64::MAX } else { (self.share.max(0.0) * 18_446_744_073_709_551_616.0) as u64 };
        Tracer::new(keep, self.most)
    }
}

/// The spans of one run.
#[derive(Debug)]
pub struct Spans<'a> {
    model: &'a Model,
    run: &'a Finished,
    records: &'a [Record],
    options: SpanOptions,
    /// Traces that were not begun because there were too many spans.
    pub left_out: u64,
}

/// Spans in one request.
const BATCH: usize = 512;

impl Finished {
    /// The spans of a traced run of `model`; `None` if it was not traced.
    pub fn spans<'a>(&'a self, model: &'a Model, options: &SpanOptions) -> Option<Spans<'a>> {
        let tracer = self.tracer.as_ref()?;
        Some(Spans { model, run: self, records: tracer.records(), options: options.clone(), left_out: tracer.left_out })
    }
}

/// Who records a span: a service and its replica's number.
type Recorder = (usize, u32);

impl Spans<'_> {
    /// How many spans there are.
    pub fn count(&self) -> usize {
        self.shown().count()
    }

    /// Records of ended spans of services that send some.
    fn shown(&self) -> impl Iterator<Item = (u32, &Record)> {
        let silent: Vec<bool> = self.model.services.keys().map(|name| self.options.silent.contains(name)).collect();
        let shown = move |(_, r): &(u32, &Record)| r.ends != OPEN && !silent[self.recorder(r).0];
        (0..).zip(self.records).filter(shown)
    }

    /// Writes OTLP JSON: one `ExportTraceServiceRequest` a line, spans in the order in which they ended.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write_otlp(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut order: Vec<(u64, u32)> = self.shown().map(|(i, r)| (r.ends, i)).collect();
        order.sort_unstable();
        let ops: Vec<&str> = self.model.services.values().flat_map(|s| s.operations.keys()).map(String::as_str).collect();
        for batch in order.chunks(BATCH) {
            let mut by_recorder: BTreeMap<Recorder, Vec<Value>> = BTreeMap::new();
            for &(_, i) in batch {
                let record = &self.records[i as usize];
                by_recorder.entry(self.recorder(record)).or_default().push(self.span(record, &ops));
            }
            let resources: Vec<Value> = by_recorder.into_iter().map(|(who, spans)| self.resource(who, spans)).collect();
            serde_json::to_writer(&mut *out, &json!({ "resourceSpans": resources }))?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn recorder(&self, record: &Record) -> Recorder {
        let services = &self.run.program.0.services;
        let service = services.partition_point(|s| s.replica_base <= record.replica) - 1;
        (service, record.replica - services[service].replica_base)
    }

    fn resource(&self, (service, replica): Recorder, spans: Vec<Value>) -> Value {
        let name = self.model.services.get_index(service).map_or("", |(name, _)| name);
        json!({
            "resource": { "attributes": [
                text("service.name", name),
                text("service.instance.id", &format!("{name}-{replica}")),
                text("telemetry.sdk.name", "foreshock"),
            ] },
            "scopeSpans": [{ "scope": { "name": "foreshock" }, "spans": spans }],
        })
    }

    fn span(&self, record: &Record, ops: &[&str]) -> Value {
        let p = &self.run.program.0;
        let site = &p.sites[record.site as usize];
        let edge = &p.policies[site.edge as usize].name;
        let (kind, name) = match (record.side, site.target) {
            (Side::Request, TargetP::Op(op)) => (2, ops[op as usize].to_owned()),
            (Side::Try, TargetP::Op(op)) => (3, ops[op as usize].to_owned()),
            (Side::Publish, _) => (4, format!("send {}", edge.to)),
            _ => (5, format!("process {}", edge.from)),
        };
        let mut attributes = Vec::new();
        match record.side {
            Side::Request => {}
            Side::Try => attributes.push(text("peer.service", &edge.to)),
            Side::Publish | Side::Delivery => {
                let (topic, operation) = if record.side == Side::Publish { (&edge.to, "send") } else { (&edge.from, "process") };
                attributes.push(text("messaging.system", "foreshock"));
                attributes.push(text("messaging.destination.name", topic));
                attributes.push(text("messaging.operation.name", operation));
            }
        }
        if record.attempt > 0 && self.options.resend_counts {
            let count = json!({ "intValue": record.attempt.to_string() });
            attributes.push(json!({ "key": "http.request.resend_count", "value": count }));
        }
        // A service that lets go of a request whose caller has left has not failed; its caller's try has not succeeded.
        let called = matches!(record.side, Side::Try | Side::Publish);
        let failure = match record.ended {
            Ended::Well => None,
            Ended::Cancelled => called.then_some("cancelled"),
            Ended::Failed(cause) => Some(error_type(cause)),
        };
        attributes.extend(failure.map(|failure| text("error.type", failure)));
        let parent = (record.parent != NONE).then(|| &self.records[record.parent as usize]);
        let linked = self.options.linked_consumers && record.side == Side::Delivery;
        let mut span = json!({
            "traceId": self.trace_id(record),
            "spanId": span_id(record),
            "name": name,
            "kind": kind,
            "startTimeUnixNano": (self.options.epoch_ns + record.begins).to_string(),
            "endTimeUnixNano": (self.options.epoch_ns + record.ends).to_string(),
            "attributes": attributes,
            "status": if failure.is_some() { json!({ "code": 2 }) } else { json!({}) },
        });
        if let Some(parent) = parent {
            if linked {
                span["links"] = json!([{ "traceId": self.trace_id(parent), "spanId": span_id(parent) }]);
            } else {
                span["parentSpanId"] = json!(span_id(parent));
            }
        }
        span
    }

    /// The trace of a record: its root's, or its own if it is below a consumer that starts one.
    fn trace_id(&self, record: &Record) -> String {
        let mut root = record.trace;
        if self.options.linked_consumers {
            let mut at = record;
            loop {
                if at.side == Side::Delivery {
                    root = at.key;
                    break;
                }
                if at.parent == NONE {
                    break;
                }
                at = &self.records[at.parent as usize];
            }
        }
        // An id of zeros is invalid.
        format!("{:016x}{:016x}", mix(root ^ 0x7261_6365), mix(root ^ 0x1d) | 1)
    }
}

fn span_id(record: &Record) -> String {
    let side = match record.side {
        Side::Try | Side::Publish => 0x5EED,
        Side::Request | Side::Delivery => 0,
    };
    format!("{:016x}", mix(record.key ^ side).max(1))
}

/// The value of `error.type`.
fn error_type(cause: Cause) -> &'static str {
    match cause {
        Cause::Error => "500",
        Cause::Overload => "overloaded",
        Cause::Timeout => "timeout",
        Cause::Connection => "connection_refused",
        Cause::BreakerOpen => "circuit_open",
        Cause::Bulkhead => "bulkhead_full",
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

#[cfg(test)]
mod tests {
    use models::units::Nanos;
    use scenarios::scenario::Scenario;

    use super::*;
    use crate::fixtures::{EVERYTHING, MALL, TWENTY, faults, program};
    use crate::run::{Prepared, RunOptions};

    /// The first scenario is that nothing happens.
    fn tried(fixture: (&str, &str)) -> Vec<Scenario> {
        std::iter::once(Scenario::default()).chain(faults(fixture)).collect()
    }

    #[test]
    fn a_traced_run_is_the_run_itself() {
        for fixture in [MALL, EVERYTHING, TWENTY] {
            let program = program(fixture);
            let options = RunOptions { horizon: Nanos::from_secs(40), ..RunOptions::default() };
            for scenario in tried(fixture) {
                let plain = Prepared::new(&program, &scenario, &options).expect("it fits").run();
                let traced = Prepared::new(&program, &scenario, &options).expect("it fits").trace(&SpanOptions::default()).run();
                assert_eq!((plain.digest(), plain.events), (traced.digest(), traced.events), "{}", scenario.id);
            }
        }
    }

    #[test]
    fn every_answered_request_has_its_spans_and_sampling_keeps_whole_traces() {
        let model = models::format::read_model("mall", MALL.0.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
        let program = program(MALL);
        let options = RunOptions { horizon: Nanos::from_secs(20), ..RunOptions::default() };
        let run =
            |spans: &SpanOptions| Prepared::new(&program, &Scenario::default(), &options).expect("it fits").trace(spans).run();
        let all = run(&SpanOptions::default());
        let spans = all.spans(&model, &SpanOptions::default()).expect("it was traced");
        let requests = spans.records.iter().filter(|r| r.side == Side::Request && r.ends != OPEN).count() as u64;
        let roots = spans.records.iter().filter(|r| r.parent == NONE).count() as u64;
        let result = all.result();
        assert!(requests > roots && roots > 100, "{requests} {roots}");
        assert!(roots.abs_diff(result.entries.values().map(|entry| entry.attempts).sum()) <= 64, "{roots}");
        let tenth = run(&SpanOptions { share: 0.1, ..SpanOptions::default() });
        let kept = tenth.spans(&model, &SpanOptions::default()).expect("it was traced");
        let share = kept.records.len() as f64 / spans.records.len() as f64;
        assert!((0.07..0.13).contains(&share), "{share}");
        let few = run(&SpanOptions { most: 100, ..SpanOptions::default() });
        let few = few.spans(&model, &SpanOptions::default()).expect("it was traced");
        assert!(few.records.len() < 1_000 && few.left_out > 100, "{} {}", few.records.len(), few.left_out);
    }
}
