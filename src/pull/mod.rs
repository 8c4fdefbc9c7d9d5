//! Live pull: traces of the last hours from a tracing system's own HTTP API, into a folder that is then read like any other.
//!
//! You are here: `pull`. `inputs` calls [`pull`] with what the options name; `sources` knows the APIs, `http` how to ask.
//! Always true: time is cut on a fixed grid; a slice that is over is fetched once and kept, so the same command does only what is
//! missing; a file is there whole or not at all; credentials come from the environment and go into no file.
//! Not here: reading what was fetched (`models::trace`).

pub mod http;
pub mod sources;
pub mod time;

use std::fs;
use std::path::{Path, PathBuf};

use self::http::{Base, Client, Credentials, Manners};
use self::sources::{Fetched, Kind, Slice};
use crate::exit::Failure;
use crate::show;

/// Length of a slice, and the grid on which slices begin. Short times are cut finer, so that little is fetched that was not asked for.
const SLICE_S: u64 = 300;
const SHORT_SLICE_S: u64 = 60;
/// Times up to here are short.
const SHORT_S: u64 = 900;
/// After its end a slice may still get spans for this long.
const SETTLED_S: u64 = 60;

/// What is pulled.
#[derive(Clone, Debug)]
pub struct Order {
    /// From whom.
    pub kind: Kind,
    /// The server.
    pub url: String,
    /// From when on, seconds since 1970.
    pub from: u64,
    /// Until when.
    pub to: u64,
    /// What time it is.
    pub now: u64,
    /// Services to ask Jaeger for; all if there are none.
    pub services: Vec<String>,
    /// Namespaces to ask Kiali for; all if there are none.
    pub namespaces: Vec<String>,
    /// Most traces of one answer.
    pub limit: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    /// Files, in order of time, those of earlier pulls included.
    pub files: Vec<PathBuf>,
    /// Slices fetched now, and slices that were there.
    pub fetched: u64,
    /// Slices that an earlier pull had fetched.
    pub kept: u64,
    /// Traces fetched now; one that several services took part in may count more than once.
    pub traces: u64,
    /// Requests sent.
    pub requests: u64,
    /// What could not be had.
    pub missing: Vec<String>,
}

/// Fetches what the folder lacks.
pub fn pull(order: &Order, folder: &Path, credentials: Credentials, manners: Manners) -> Result<Pulled, Failure> {
    let base = Base::parse(&order.url)?;
    if base.is_open() && credentials.are_given() {
        show::note(format_args!("warning: credentials go to {} over plain HTTP, where others can read them", base.origin()));
    }
    fs::create_dir_all(folder).map_err(|why| Failure::unwritable(folder, &why))?;
    // Two servers may share a folder.
    let server: String = base.origin().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let mut client = Client::new(base, credentials, manners);
    let questions = sources::questions(order.kind, &mut client, &order.services, &order.namespaces)?;
    let slices = slices(order);
    let mut pulled = Pulled::default();
    let all = questions.len() * slices.len();
    for question in &questions {
        for slice in &slices {
            let settled = slice.to + SETTLED_S <= order.now;
            let name = format!("{}-{server}{}-{}-{}", order.kind.name(), question.label(), slice.from, slice.to - slice.from);
            let whole = folder.join(format!("{name}.json"));
            let open = folder.join(format!("{name}.open.json"));
            if whole.exists() {
                pulled.kept += 1;
                // An empty answer is a slice without traffic: nothing to read.
                pulled.files.extend(is_filled(&whole).then_some(whole));
                continue;
            }
            let fetched = sources::fetch(question, &mut client, *slice, order.limit)?;
            let path = if settled && fetched.missing.is_empty() { &whole } else { &open };
            write(folder, path, &fetched)?;
            if *path == whole {
                let _ = fs::remove_file(&open);
            }
            pulled.files.extend(is_filled(path).then(|| path.clone()));
            pulled.fetched += 1;
            pulled.traces += fetched.traces;
            pulled.missing.extend(fetched.missing);
            let done = pulled.fetched + pulled.kept;
            if pulled.fetched % 20 == 0 {
                show::note(format_args!("{}: {done} of {all} slices, {} traces", order.kind.name(), pulled.traces));
            }
        }
    }
    pulled.requests = client.requests;
    Ok(pulled)
}

/// The slices of an order, on their grid. Kiali's graph is one number over all of the time.
fn slices(order: &Order) -> Vec<Slice> {
    if order.kind == Kind::Kiali {
        let to = order.to / SHORT_SLICE_S * SHORT_SLICE_S;
        return vec![Slice { from: to.saturating_sub(order.to - order.from), to }];
    }
    let length = if order.to - order.from <= SHORT_S { SHORT_SLICE_S } else { SLICE_S };
    let first = order.from / length * length;
    (0..).map(|i| first + i * length).take_while(|&from| from < order.to).map(|from| Slice { from, to: from + length }).collect()
}

fn is_filled(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.len() > 0)
}

/// Writes a file whole or not at all; readers pass hidden files over.
fn write(folder: &Path, path: &Path, fetched: &Fetched) -> Result<(), Failure> {
    let part = folder.join(".part");
    fs::write(&part, &fetched.json).and_then(|()| fs::rename(&part, path)).map_err(|why| Failure::unwritable(path, &why))
}
