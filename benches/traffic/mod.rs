//! Spans made on the fly: as many as wanted of one shop, as a collector's file exporter writes them.
//!
//! You are here: `benches/traffic`. The example `spans`, the bench `ingest` and `tests/it/scale.rs` read from it.
//! Always true: the bytes are a function of the number of spans and the encoding; nothing is held but one export.
//!
//! ```text
//! users -> front -> cart -> redis          11 spans a request, 500 requests/s,
//!          front -> catalog                every 20th payment fails,
//!          front -> payment -> bank        every 4th request has no payment: 8 spans
//!          front -> mail
//! ```

use std::io::{self, Read};

/// Requests of one export.
const REQUESTS: u64 = 20;
/// Mean time between requests, nanoseconds.
const GAP_NS: u64 = 2_000_000;
/// Services that record spans.
const SERVICES: [&str; 5] = ["front", "cart", "catalog", "payment", "mail"];

/// How spans are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// One JSON document a line.
    Json,
    /// Protobuf messages, each after its length in four bytes.
    Protobuf,
}

/// A stream of spans.
#[derive(Debug)]
pub struct Traffic {
    encoding: Encoding,
    left: u64,
    request: u64,
    now: u64,
    state: u64,
    export: Vec<u8>,
    at: usize,
    resources: [Vec<u8>; 5],
    /// Attributes as they are written, each list once.
    written: Vec<(&'static [(&'static str, &'static str)], Vec<u8>)>,
}

struct Record {
    service: usize,
    trace: u64,
    id: u64,
    parent: u64,
    name: &'static str,
    kind: u8,
    start: u64,
    end: u64,
    attributes: &'static [(&'static str, &'static str)],
    failed: bool,
}

impl Traffic {
    /// At least `spans` spans: whole requests.
    pub fn new(spans: u64, encoding: Encoding) -> Self {
        Traffic {
            encoding,
            left: spans,
            request: 0,
            now: 1_700_000_000_000_000_000,
            state: 7,
            export: Vec::new(),
            at: 0,
            resources: Default::default(),
            written: Vec::new(),
        }
    }

    /// A number below `below`.
    fn draw(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    fn next_export(&mut self) {
        self.export.clear();
        self.resources.iter_mut().for_each(Vec::clear);
        for _ in 0..REQUESTS {
            if self.left > 0 {
                self.request();
            }
        }
        match self.encoding {
            Encoding::Json => self.json_export(),
            Encoding::Protobuf => self.protobuf_export(),
        }
        self.at = 0;
    }

    fn request(&mut self) {
        self.request += 1;
        self.now += self.draw(2 * GAP_NS);
        let trace = self.request;
        let begin = self.now;
        let mut at = begin + 200_000 + self.draw(800_000);
        let (mut id, root) = (trace * 16 + 1, trace * 16);
        let mut spans = 1;
        let pays = trace % 4 != 3;
        let fails = pays && trace % 20 == 5;
        const FRONT: &[(&str, &str)] = &[
            ("http.request.method", "POST"),
            ("http.route", "/checkout"),
            ("http.response.status_code", "200"),
            ("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"),
        ];
        type Leg =
            (usize, &'static [(&'static str, &'static str)], &'static str, u64, Option<&'static [(&'static str, &'static str)]>);
        let legs: [Leg; 4] = [
            (
                1,
                &[
                    ("rpc.system", "grpc"),
                    ("rpc.service", "shop.Cart"),
                    ("rpc.method", "Get"),
                    ("server.address", "cart"),
                    ("rpc.grpc.status_code", "0"),
                ],
                "shop.Cart/Get",
                3_000_000,
                Some(&[
                    ("db.system", "redis"),
                    ("server.address", "redis"),
                    ("db.operation", "HGET"),
                    ("net.transport", "ip_tcp"),
                ]),
            ),
            (
                2,
                &[
                    ("rpc.system", "grpc"),
                    ("rpc.service", "shop.Catalog"),
                    ("rpc.method", "List"),
                    ("server.address", "catalog"),
                    ("rpc.grpc.status_code", "0"),
                ],
                "shop.Catalog/List",
                5_000_000,
                None,
            ),
            (
                3,
                &[
                    ("rpc.system", "grpc"),
                    ("rpc.service", "shop.Payment"),
                    ("rpc.method", "Charge"),
                    ("server.address", "payment"),
                    ("rpc.grpc.status_code", "0"),
                ],
                "shop.Payment/Charge",
                8_000_000,
                Some(&[
                    ("http.request.method", "POST"),
                    ("url.full", "https://bank.example/charge"),
                    ("server.address", "bank.example"),
                    ("http.response.status_code", "200"),
                ]),
            ),
            (
                4,
                &[
                    ("rpc.system", "grpc"),
                    ("rpc.service", "shop.Mail"),
                    ("rpc.method", "Send"),
                    ("server.address", "mail"),
                    ("rpc.grpc.status_code", "0"),
                ],
                "shop.Mail/Send",
                2_000_000,
                None,
            ),
        ];
        for (service, attributes, name, mean, leaf) in legs {
            if service == 3 && !pays {
                continue;
            }
            let failed = service == 3 && fails;
            let work = mean / 2 + self.draw(mean);
            let (client, server) = (id, id + 1);
            id += 2;
            let (from, to) = (at, at + work + 200_000);
            self.record(&Record {
                service: 0,
                trace,
                id: client,
                parent: root,
                name,
                kind: 3,
                start: from,
                end: to,
                attributes,
                failed,
            });
            self.record(&Record {
                service,
                trace,
                id: server,
                parent: client,
                name,
                kind: 2,
                start: from + 100_000,
                end: to - 100_000,
                attributes,
                failed,
            });
            spans += 2;
            if let Some(attributes) = leaf {
                let (start, end) = (from + 100_000 + work / 4, to - 100_000 - work / 4);
                self.record(&Record {
                    service,
                    trace,
                    id,
                    parent: server,
                    name: "call",
                    kind: 3,
                    start,
                    end,
                    attributes,
                    failed,
                });
                id += 1;
                spans += 1;
            }
            at = to + 100_000;
        }
        self.record(&Record {
            service: 0,
            trace,
            id: root,
            parent: 0,
            name: "POST /checkout",
            kind: 2,
            start: begin,
            end: at,
            attributes: FRONT,
            failed: fails,
        });
        self.left = self.left.saturating_sub(spans);
    }

    fn record(&mut self, record: &Record) {
        let known = self.written.iter().position(|(attributes, _)| std::ptr::eq(*attributes, record.attributes));
        let known = known.unwrap_or_else(|| {
            let mut written = Vec::new();
            match self.encoding {
                Encoding::Json => json_attributes(record.attributes, &mut written),
                Encoding::Protobuf => protobuf_attributes(9, record.attributes, &mut written),
            }
            self.written.push((record.attributes, written));
            self.written.len() - 1
        });
        let attributes = &self.written[known].1;
        match self.encoding {
            Encoding::Json => json(record, attributes, &mut self.resources[record.service]),
            Encoding::Protobuf => protobuf(record, attributes, &mut self.resources[record.service]),
        }
    }

    fn json_export(&mut self) {
        let out = &mut self.export;
        out.extend_from_slice(b"{\"resourceSpans\":[");
        for (service, spans) in SERVICES.iter().zip(&self.resources).filter(|(_, spans)| !spans.is_empty()) {
            if !out.ends_with(b"[") {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"resource\":{\"attributes\":[");
            json_attributes(
                &[("service.name", service), ("service.instance.id", "1"), ("telemetry.sdk.name", "opentelemetry")],
                out,
            );
            out.extend_from_slice(b"]},\"scopeSpans\":[{\"scope\":{\"name\":\"shop\"},\"spans\":[");
            out.extend_from_slice(&spans[..spans.len() - 1]);
            out.extend_from_slice(b"]}]}");
        }
        out.extend_from_slice(b"]}\n");
    }

    fn protobuf_export(&mut self) {
        let mut frame = Vec::new();
        for (service, spans) in SERVICES.iter().zip(&self.resources).filter(|(_, spans)| !spans.is_empty()) {
            let mut resource = Vec::new();
            protobuf_attributes(1, &[("service.name", service), ("service.instance.id", "1")], &mut resource);
            let mut scope_spans = Vec::new();
            delimited(1, b"\x0a\x04shop", &mut scope_spans);
            scope_spans.extend_from_slice(spans);
            let mut resource_spans = Vec::new();
            delimited(1, &resource, &mut resource_spans);
            delimited(2, &scope_spans, &mut resource_spans);
            delimited(1, &resource_spans, &mut frame);
        }
        self.export.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.export.append(&mut frame);
    }
}

impl Read for Traffic {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.export.len() {
            if self.left == 0 {
                return Ok(0);
            }
            self.next_export();
        }
        let rest = &self.export[self.at..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at += length;
        Ok(length)
    }
}

/// The upper half of all trace ids, and a mix for the lower one.
const HIGH: u64 = 0x4bf9_2f35_77b3_4da6;
fn low(trace: u64) -> u64 {
    trace.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn hex(number: u64, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend((0..16).rev().map(|digit| DIGITS[(number >> (4 * digit)) as usize & 15]));
}

fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let (mut digits, mut at) = ([0u8; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn json_attributes(attributes: &[(&str, &str)], out: &mut Vec<u8>) {
    for (index, (key, value)) in attributes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        for part in ["{\"key\":\"", key, "\",\"value\":{\"stringValue\":\"", value, "\"}}"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// A span and a comma.
fn json(record: &Record, attributes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"traceId\":\"");
    hex(HIGH, out);
    hex(low(record.trace), out);
    out.extend_from_slice(b"\",\"spanId\":\"");
    hex(record.id, out);
    if record.parent != 0 {
        out.extend_from_slice(b"\",\"parentSpanId\":\"");
        hex(record.parent, out);
    }
    out.extend_from_slice(b"\",\"flags\":257,\"name\":\"");
    out.extend_from_slice(record.name.as_bytes());
    out.extend_from_slice(b"\",\"kind\":");
    out.push(b'0' + record.kind);
    out.extend_from_slice(b",\"startTimeUnixNano\":\"");
    decimal(record.start, out);
    out.extend_from_slice(b"\",\"endTimeUnixNano\":\"");
    decimal(record.end, out);
    out.extend_from_slice(b"\",\"attributes\":[");
    out.extend_from_slice(attributes);
    out.extend_from_slice(if record.failed {
        b"],\"status\":{\"code\":2}},".as_slice()
    } else {
        b"],\"status\":{}},".as_slice()
    });
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn delimited(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(field << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn protobuf_attributes(field: u64, attributes: &[(&str, &str)], out: &mut Vec<u8>) {
    for (key, value) in attributes {
        let mut any = Vec::with_capacity(64);
        delimited(1, value.as_bytes(), &mut any);
        let mut attribute = Vec::with_capacity(128);
        delimited(1, key.as_bytes(), &mut attribute);
        delimited(2, &any, &mut attribute);
        delimited(field, &attribute, out);
    }
}

/// A span as field 2 of its scope.
fn protobuf(record: &Record, attributes: &[u8], out: &mut Vec<u8>) {
    let mut span = Vec::with_capacity(512);
    let mut trace = [0; 16];
    trace[..8].copy_from_slice(&HIGH.to_be_bytes());
    trace[8..].copy_from_slice(&low(record.trace).to_be_bytes());
    delimited(1, &trace, &mut span);
    delimited(2, &record.id.to_be_bytes(), &mut span);
    if record.parent != 0 {
        delimited(4, &record.parent.to_be_bytes(), &mut span);
    }
    delimited(5, record.name.as_bytes(), &mut span);
    span.extend_from_slice(&[6 << 3, record.kind]);
    for (field, time) in [(7u8, record.start), (8, record.end)] {
        span.push(field << 3 | 1);
        span.extend_from_slice(&time.to_le_bytes());
    }
    span.extend_from_slice(attributes);
    delimited(15, if record.failed { b"\x18\x02" } else { b"" }, &mut span);
    delimited(2, &span, out);
}
