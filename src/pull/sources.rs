//! What is asked of Jaeger, Tempo, Zipkin and Kiali, and how an answer that was cut by its limit shows.
//!
//! You are here: `pull::sources`. `mod` walks over time; here is what one slice of it means to each API.
//! Always true: a slice whose answer reached the limit is asked for again in halves, down to one second.
//! Not here: HTTP (`http`), files (`mod`).

use serde_json::Value;

use super::http::{Answer, Client, encoded};
use super::time::rfc3339;
use crate::exit::Failure;

/// The servers that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Jaeger's query service: the API of its pages, else version 3.
    Jaeger,
    /// Grafana Tempo: a search, then every trace by its id.
    Tempo,
    /// Zipkin, version 2.
    Zipkin,
    /// Kiali's graph of all namespaces.
    Kiali,
}

impl Kind {
    /// As in options, file names and variables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Jaeger => "jaeger",
            Kind::Tempo => "tempo",
            Kind::Zipkin => "zipkin",
            Kind::Kiali => "kiali",
        }
    }
}

/// A stretch of time, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// First second.
    pub from: u64,
    /// The second after the last.
    pub to: u64,
}

/// What is asked for slice after slice: of Jaeger one service, of the others everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Traces of a service (Jaeger's page API).
    JaegerService(String),
    /// The same by version 3.
    JaegerServiceV3(String),
    /// Traces that a search finds (Tempo).
    Tempo,
    /// Traces (Zipkin).
    Zipkin,
    /// The graph over the whole time (Kiali), of these namespaces.
    Kiali(Vec<String>),
}

impl Question {
    /// What tells its files from those of other questions to the same server.
    pub fn label(&self) -> String {
        match self {
            Question::JaegerService(service) | Question::JaegerServiceV3(service) => format!("-{}", file_name(service)),
            Question::Tempo | Question::Zipkin | Question::Kiali(_) => String::new(),
        }
    }
}

/// A name fit for a file: what is odd in it becomes its code.
fn file_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    name.chars().map(|c| if plain(c) { c.to_string() } else { format!("+{:x}", u32::from(c)) }).collect()
}

/// What came of a slice.
#[derive(Debug, Default)]
pub struct Fetched {
    /// JSON texts, one after the other.
    pub json: Vec<u8>,
    /// Traces in them.
    pub traces: u64,
    /// What could not be had, in words.
    pub missing: Vec<String>,
}

/// Finds out what there is to ask.
pub fn questions(kind: Kind, client: &mut Client, services: &[String], namespaces: &[String]) -> Result<Vec<Question>, Failure> {
    match kind {
        Kind::Jaeger => {
            let (answer, v3) = match client.get("/api/services")? {
                Answer::NotFound => (client.get("/api/v3/services")?, true),
                answer => (answer, false),
            };
            let mut known = strings(&parsed(&answer), if v3 { "services" } else { "data" });
            if !services.is_empty() {
                known = services.to_vec();
            }
            known.sort();
            known.dedup();
            Ok(known.into_iter().map(if v3 { Question::JaegerServiceV3 } else { Question::JaegerService }).collect())
        }
        Kind::Tempo => Ok(vec![Question::Tempo]),
        Kind::Zipkin => Ok(vec![Question::Zipkin]),
        Kind::Kiali if !namespaces.is_empty() => Ok(vec![Question::Kiali(namespaces.to_vec())]),
        Kind::Kiali => {
            let value = parsed(&client.get("/api/namespaces")?);
            let names = value.as_array().into_iter().flatten().filter_map(|space| space["name"].as_str());
            let mut names: Vec<String> = names.map(str::to_owned).collect();
            names.sort();
            Ok(vec![Question::Kiali(names)])
        }
    }
}

/// Fetches one slice; in halves where the answer was cut by `limit` or too large.
pub fn fetch(question: &Question, client: &mut Client, slice: Slice, limit: usize) -> Result<Fetched, Failure> {
    let mut fetched = Fetched::default();
    let mut rest = vec![slice];
    while let Some(slice) = rest.pop() {
        let answer = match question {
            // One number for the whole time: no halves.
            Question::Kiali(namespaces) => return kiali(client, slice, namespaces),
            Question::Tempo => {
                tempo(client, slice, limit, &mut fetched, &mut rest)?;
                continue;
            }
            Question::JaegerService(service) => {
                let (from, to) = (slice.from * 1_000_000, slice.to * 1_000_000 - 1);
                client.get(&format!("/api/traces?service={}&start={from}&end={to}&limit={limit}", encoded(service)))?
            }
            Question::JaegerServiceV3(service) => client.get(&format!(
                "/api/v3/traces?query.service_name={}&query.start_time_min={}&query.start_time_max={}&query.search_depth={limit}",
                encoded(service),
                encoded(&rfc3339(slice.from)),
                encoded(&rfc3339(slice.to))
            ))?,
            Question::Zipkin => {
                let (end, length) = (slice.to * 1_000 - 1, (slice.to - slice.from) * 1_000 - 1);
                client.get(&format!("/api/v2/traces?endTs={end}&lookback={length}&limit={limit}"))?
            }
        };
        match answer {
            // Jaeger's version 3 says so where there are no traces.
            Answer::NotFound => {}
            Answer::TooLarge => halve_or_miss(slice, "an answer larger than the limit", &mut fetched, &mut rest),
            Answer::Json(json) => {
                let n = traces_in(question, &json);
                if n >= limit && slice.to - slice.from > 1 {
                    halve(slice, &mut rest);
                    continue;
                }
                if n >= limit {
                    fetched.missing.push(format!("{}: more than {limit} traces in one second", rfc3339(slice.from)));
                }
                fetched.traces += n as u64;
                if n > 0 {
                    fetched.push(&json);
                }
            }
        }
    }
    Ok(fetched)
}

impl Fetched {
    fn push(&mut self, json: &[u8]) {
        self.json.extend_from_slice(json.trim_ascii());
        self.json.push(b'\n');
    }
}

/// The later half is put first, so that the earlier one is next.
fn halve(slice: Slice, rest: &mut Vec<Slice>) {
    let middle = slice.from + (slice.to - slice.from) / 2;
    rest.push(Slice { from: middle, ..slice });
    rest.push(Slice { to: middle, ..slice });
}

fn halve_or_miss(slice: Slice, what: &str, fetched: &mut Fetched, rest: &mut Vec<Slice>) {
    if slice.to - slice.from > 1 {
        halve(slice, rest);
    } else {
        fetched.missing.push(format!("{}: {what}", rfc3339(slice.from)));
    }
}

/// Searches a slice and gets every trace found.
fn tempo(client: &mut Client, slice: Slice, limit: usize, fetched: &mut Fetched, rest: &mut Vec<Slice>) -> Result<(), Failure> {
    let answer = client.get(&format!("/api/search?q=%7B%7D&start={}&end={}&limit={limit}", slice.from, slice.to))?;
    let found = match answer {
        Answer::TooLarge => {
            halve_or_miss(slice, "a search whose answer is larger than the limit", fetched, rest);
            return Ok(());
        }
        answer => parsed(&answer),
    };
    let ids: Vec<String> = found["traces"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|trace| trace["traceID"].as_str())
        .map(str::to_owned)
        .collect();
    if ids.len() >= limit && slice.to - slice.from > 1 {
        halve(slice, rest);
        return Ok(());
    }
    if ids.len() >= limit {
        fetched.missing.push(format!("{}: more than {limit} traces in one second", rfc3339(slice.from)));
    }
    for id in ids {
        let id = encoded(&id);
        let trace = match client.get(&format!("/api/v2/traces/{id}"))? {
            Answer::NotFound => client.get(&format!("/api/traces/{id}"))?,
            answer => answer,
        };
        match trace {
            Answer::Json(json) => {
                fetched.traces += 1;
                fetched.push(&json);
            }
            Answer::NotFound => fetched.missing.push(format!("trace {id}: found by the search and then not there")),
            Answer::TooLarge => fetched.missing.push(format!("trace {id}: larger than the limit")),
        }
    }
    Ok(())
}

fn kiali(client: &mut Client, slice: Slice, namespaces: &[String]) -> Result<Fetched, Failure> {
    let names: Vec<String> = namespaces.iter().map(|name| encoded(name)).collect();
    let path = format!(
        "/api/namespaces/graph?namespaces={}&graphType=workload&duration={}s&queryTime={}&appenders=deadNode,responseTime&responseTime=95",
        names.join(","),
        slice.to - slice.from,
        slice.to
    );
    let mut fetched = Fetched::default();
    match client.get(&path)? {
        Answer::Json(json) => fetched.push(&json),
        Answer::NotFound => fetched.missing.push("no graph at this address; Kiali's usually ends in /kiali".to_owned()),
        Answer::TooLarge => fetched.missing.push("a graph larger than the limit: name fewer namespaces".to_owned()),
    }
    Ok(fetched)
}

fn parsed(answer: &Answer) -> Value {
    match answer {
        Answer::Json(json) => serde_json::from_slice(json).unwrap_or_default(),
        _ => Value::Null,
    }
}

fn strings(value: &Value, key: &str) -> Vec<String> {
    value[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Traces of an answer.
fn traces_in(question: &Question, json: &[u8]) -> usize {
    let Ok(value) = serde_json::from_slice::<Value>(json) else { return 0 };
    let length = |value: &Value| value.as_array().map_or(0, Vec::len);
    match question {
        Question::JaegerService(_) => length(&value["data"]),
        Question::Zipkin => length(&value),
        Question::JaegerServiceV3(_) => {
            let resources = value["result"]["resourceSpans"].as_array().into_iter().flatten();
            let scopes = resources.flat_map(|resource| resource["scopeSpans"].as_array().into_iter().flatten());
            let spans = scopes.flat_map(|scope| scope["spans"].as_array().into_iter().flatten());
            let ids: std::collections::BTreeSet<&str> = spans.filter_map(|span| span["traceId"].as_str()).collect();
            ids.len()
        }
        Question::Tempo | Question::Kiali(_) => 0,
    }
}
