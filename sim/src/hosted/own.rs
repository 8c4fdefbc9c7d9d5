//! A service of somebody's own in the place of a modelled one, among stand-ins for all its neighbours.
//!
//! You are here: `sim::hosted::own`. A test builds a [`Rehearsal`]; `hosted` runs it; the [`Outcome`] says what came of it.
//! ```text
//! users ──▶ stand-in ──▶ your service ──▶ stand-in …        all on turmoil's network, under one scenario
//! ```
//! Always true: the same seed gives the same outcome, or an error says that it does not; a failed expectation prints the token, the seed, and
//! how to repeat it.
//! Not here: how stand-ins work (`service`, `client`).

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use models::format::canonical_text;
use models::system::Model;
use models::units::{Nanos, SimTime};
use scenarios::fault::{FaultKind, Target};
use scenarios::record::RunRecord;
use scenarios::scenario::Scenario;
use scenarios::token::{Engine, Token, model_hash, scenario_hash};
use turmoil::net::{TcpListener, TcpStream};

use super::pool::PORT;
use super::wire::{CONTEXT, escape};
use super::world::World;
use crate::SimError;
use crate::des::{FaultPlan, Keep, Left, Recorder};
use crate::program::Program;
use crate::result::RunResult;
use crate::run::{Finished, RunOptions, check_horizon};
use crate::sweep::judged_buckets;
use crate::twin::Twin;
use crate::verdict::{Case, judge};

/// What a service of somebody's own is started with, once for each life of its process.
#[derive(Clone, Debug)]
pub struct Own {
    /// Which service it takes the place of.
    pub service: String,
}

impl Own {
    /// Opens the listener that its callers connect to.
    ///
    /// # Errors
    /// It is open already.
    pub async fn listen(&self) -> std::io::Result<TcpListener> {
        TcpListener::bind(("0.0.0.0", PORT)).await
    }

    /// Connects to a neighbour: a modelled service, or a topic.
    ///
    /// # Errors
    /// The neighbour refuses. (One that bytes vanish on the way to never answers: put a timeout around it.)
    pub async fn connect(&self, neighbour: &str) -> std::io::Result<TcpStream> {
        TcpStream::connect((escape(neighbour).as_str(), PORT)).await
    }

    /// One call to a neighbour's operation over a connection of its own. `context` is the value of the header [`CONTEXT`] of the request on
    /// whose behalf it is made; without it the call is served all the same, but nobody can tell whose it is.
    ///
    /// # Errors
    /// As [`Own::connect`], or the connection breaks. An answer that is no success is no error.
    pub async fn call(
        &self,
        neighbour: &str,
        operation: &str,
        context: Option<&str>,
    ) -> Result<StatusCode, Box<dyn Error + Send + Sync>> {
        let stream = self.connect(neighbour).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::post(format!("/{}", escape(operation))).header("host", escape(neighbour));
        if let Some(context) = context {
            request = request.header(CONTEXT, context);
        }
        let status = sender.send_request(request.body(Empty::<Bytes>::new())?).await.map(|response| response.status());
        connection.abort();
        Ok(status?)
    }
}

pub(super) type Software = Rc<dyn Fn(Own) -> Pin<Box<dyn Future<Output = turmoil::Result>>>>;

/// What runs on the host of a replaced service, from its start or restart on.
pub(super) async fn software(world: Rc<World>, service: u32, own: Software) -> turmoil::Result {
    let s = &world.p().services[service as usize];
    let mut up = world.replicas[s.replica_base as usize].up.subscribe();
    up.wait_for(|&up| up).await?;
    let name = world.p().nodes[s.node as usize].name.clone();
    own(Own { service: name.clone() })
        .await
        .map_err(|error| format!("the service put in the place of `{name}` failed: {error}"))?;
    Err(format!("the service put in the place of `{name}` ended; it has to serve as long as the run lasts").into())
}

/// A model, a scenario, a seed, and services of somebody's own in the places of modelled ones.
///
/// ```
/// use std::{convert::Infallible, error::Error};
///
/// use http_body_util::Empty;
/// use hyper::{Response, body::{Bytes, Incoming}, server::conn::http1, service::service_fn};
/// use hyper_util::rt::TokioIo;
/// use models::units::Nanos;
/// use sim::hosted::{Own, Rehearsal};
///
/// async fn inventory(own: Own) -> Result<(), Box<dyn Error>> {
///     let listener = own.listen().await?;
///     loop {
///         let (stream, _) = listener.accept().await?;
///         let answer = service_fn(|_: hyper::Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
///         tokio::task::spawn_local(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
///     }
/// }
///
/// let model = models::format::read_model("shop", b"
/// version: 1
/// workload: { users: { to: shop.buy, open: { rate: 20/s } } }
/// services:
///   shop: { workers: 8, operations: { buy: { paths: [ { weight: 1, steps: [ { work: { constant: 2ms } }, { call: inventory.reserve } ] } ] } } }
///   inventory: { workers: 8, operations: { reserve: { paths: [ { weight: 1, steps: [ { work: { constant: 5ms } } ] } ] } } }
/// edges: { shop->inventory: { timeout: 100ms } }
/// ")?;
/// let scenarios = scenarios::format::read_scenarios("crash", b"
/// version: 1
/// scenarios: [ { id: crash, faults: [ { kind: crash, target: inventory, start: 6s, duration: 2s } ] } ]
/// ")?;
/// let rehearsal = Rehearsal::new(&model, &scenarios[0]).lasting(Nanos::from_secs(20), Nanos::from_secs(2));
/// let outcome = rehearsal.seed(7).replace("inventory", inventory).run()?;
/// assert!(outcome.record.failed > 0);
/// outcome.recovers_within(Nanos::from_secs(1));
/// # Ok::<(), Box<dyn Error>>(())
/// ```
pub struct Rehearsal {
    model: Model,
    scenario: Scenario,
    seed: u64,
    horizon: Nanos,
    warm_up: Nanos,
    own: Vec<(String, Software)>,
}

impl Rehearsal {
    /// Seed 1, two minutes, a warm-up of ten seconds; nothing is replaced yet.
    pub fn new(model: &Model, scenario: &Scenario) -> Rehearsal {
        Rehearsal {
            model: model.clone(),
            scenario: scenario.clone(),
            seed: 1,
            horizon: Nanos::from_secs(120),
            warm_up: Nanos::from_secs(10),
            own: Vec::new(),
        }
    }

    /// The seed that gives every request its luck.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Rehearsal {
        self.seed = seed;
        self
    }

    /// How long it lasts, and how much of that is left out of the statistics.
    #[must_use]
    pub fn lasting(mut self, horizon: Nanos, warm_up: Nanos) -> Rehearsal {
        (self.horizon, self.warm_up) = (horizon, warm_up);
        self
    }

    /// Puts a service in the place of a modelled one. `software` is called whenever its process starts (so once more after a crash) and serves
    /// until it is dropped; it runs on turmoil's host of that service, on one thread, so `Rc` and `spawn_local` are fine.
    #[must_use]
    pub fn replace<F, Fut>(mut self, service: &str, software: F) -> Rehearsal
    where
        F: Fn(Own) -> Fut + 'static,
        Fut: Future<Output = Result<(), Box<dyn Error>>> + 'static,
    {
        self.own.push((service.to_owned(), Rc::new(move |own| Box::pin(software(own)))));
        self
    }

    /// Runs it, twice, and its fault-free twin.
    ///
    /// # Errors
    /// What the hosted engine refuses; a service that the model does not have; a fault that only a stand-in can suffer; a service that panics,
    /// fails or ends; a seed that gives two results.
    pub fn run(&self) -> Result<Outcome, SimError> {
        check_horizon(self.horizon)?;
        let program = Program::compile(&self.model, 0)?;
        super::check(&program)?;
        let own = self.places(&program)?;
        let plan = FaultPlan::new(&program, &self.scenario)?;
        let calm = FaultPlan::new(&program, &Scenario::default())?;
        let options = RunOptions { seed: self.seed, horizon: self.horizon, warm_up: self.warm_up, ..RunOptions::default() };
        let books = |judged: Option<&Twin>| {
            let mut recorder = Recorder::new(&program.0);
            recorder.keep(&program.0, Keep::Judged, options.warm_up.as_nanos());
            recorder.watch_edges(&program.0);
            if let Some(twin) = judged {
                let (start, end) = judged_buckets(&plan, &options);
                recorder.judge_from(start, end, &twin.wide);
            }
            recorder
        };
        let twin = |load| Ok::<_, SimError>(Twin::of_hosted(simulate(&program, &calm, load, &options, books(None), &own)?));
        let load = self.scenario.load();
        let normal = twin(load)?;
        let baseline = if load == 1.0 { None } else { Some(twin(1.0)?) };
        let run = simulate(&program, &plan, load, &options, books(Some(&normal)), &own)?;
        let again = simulate(&program, &plan, load, &options, books(Some(&normal)), &own)?;
        if run.digest() != again.digest() {
            return Err(SimError::Hosted(format!(
                "seed {} gave two results ({} and {}): something in the service hangs on the wall clock, on a random generator without a \
                 seed, on the order of a hash map, or on what an earlier run left behind",
                self.seed,
                run.digest(),
                again.digest()
            )));
        }
        let token = Token {
            model: model_hash(&canonical_text(&self.model)),
            scenario: scenario_hash(&self.scenario),
            world: 0,
            seed: self.seed,
            engine: Engine::Hosted,
            horizon: self.horizon,
        };
        let baseline = baseline.as_ref().unwrap_or(&normal);
        let case = Case { run: &run, twin: &normal, baseline, plan: &plan, scenario: &self.scenario };
        let record = judge(&case, token.to_string());
        Ok(Outcome { record, result: run.result(), seed: self.seed })
    }

    fn places(&self, program: &Program) -> Result<Vec<(u32, Software)>, SimError> {
        let mut places = Vec::new();
        for (name, software) in &self.own {
            let service = self.model.services.get_index_of(name.as_str()).ok_or_else(|| {
                let names = || self.model.services.keys().map(String::as_str);
                let nearest =
                    models::error::nearest(name, names()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                SimError::Hosted(format!("the model has no service `{name}` that could be replaced{nearest}"))
            })?;
            for fault in &self.scenario.faults {
                let here = matches!(&fault.target, Target::Node(node) if node == name);
                if here && !matches!(fault.kind, FaultKind::Crash { .. }) {
                    return Err(SimError::Scenario(format!(
                        "{}: only a stand-in can suffer `{}`, and `{name}` is replaced; crash it, or strike an edge",
                        self.scenario.id,
                        fault.kind.name()
                    )));
                }
            }
            places.push((service as u32, Rc::clone(software)));
        }
        debug_assert!(places.iter().all(|(s, _)| (*s as usize) < program.0.services.len()));
        Ok(places)
    }
}

impl fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own: Vec<&str> = self.own.iter().map(|(name, _)| name.as_str()).collect();
        let Rehearsal { scenario, seed, horizon, .. } = self;
        write!(f, "Rehearsal {{ scenario: {:?}, seed: {seed}, horizon: {horizon}, own: {own:?} }}", scenario.id)
    }
}

/// One simulation with services of somebody's own in it; a panic of theirs is an error.
fn simulate(
    program: &Program,
    plan: &std::sync::Arc<FaultPlan>,
    load: f64,
    options: &RunOptions,
    recorder: Recorder,
    own: &[(u32, Software)],
) -> Result<Finished, SimError> {
    let run = || super::simulate(program, std::sync::Arc::clone(plan), load, options, recorder, own);
    // (Nothing of a simulation that panicked is looked at again.)
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(SimError::Hosted(format!(
            "a service put in the place of a modelled one panicked: {}",
            said.unwrap_or("(no message)")
        )))
    })
}

/// What came of a rehearsal.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The verdicts: breaches, cascade, recovery, and the five numbers.
    pub record: RunRecord,
    /// Calls over every edge and requests at every service, after the warm-up.
    pub result: RunResult,
    /// The seed.
    pub seed: u64,
}

impl Outcome {
    /// Expects every entry to be back to normal this soon after the last fault's end.
    ///
    /// # Panics
    /// It is not.
    #[track_caller]
    pub fn recovers_within(&self, limit: Nanos) {
        let recovered = self.record.recovery_s.map(|s| Nanos::from_nanos((s * 1e9) as u64));
        if recovered.is_none_or(|took| took > limit) {
            let took = recovered.map_or_else(
                || format!("not by the end of the run, {} after it", SimTime::ZERO + self.after_the_fault() - SimTime::ZERO),
                |took| format!("{took} after it"),
            );
            self.fail(format_args!("recovery within {limit} of the last fault's end; it came {took}"));
        }
    }

    /// Expects the error rate that callers see at a boundary (an entry, or an edge as in `web->orders`), over the run after its warm-up, to
    /// be at most this.
    ///
    /// # Panics
    /// It is higher, or there is no such boundary.
    #[track_caller]
    pub fn error_rate_at(&self, boundary: &str, at_most: f64) {
        let calls = self.result.entries.get(boundary).or_else(|| self.result.boundaries.get(boundary));
        match calls {
            None => self.fail(format_args!("a boundary `{boundary}`; the model has none of that name")),
            Some(calls) if calls.error_rate > at_most => {
                self.fail(format_args!("an error rate of at most {at_most} at {boundary}; it was {:.4}", calls.error_rate));
            }
            Some(_) => {}
        }
    }

    /// Expects that no consumer applied an older update after a newer one.
    ///
    /// # Panics
    /// One did.
    #[track_caller]
    pub fn no_stale_writes(&self) {
        if self.record.stale_writes > 0 {
            self.fail(format_args!("no stale writes; there were {}", self.record.stale_writes));
        }
    }

    /// Expects that no error spreads beyond what the faults touch.
    ///
    /// # Panics
    /// One does.
    #[track_caller]
    pub fn no_cascade(&self) {
        if self.record.cascaded {
            let nodes: Vec<&str> = self.record.breaches.iter().filter(|b| b.by_error).map(|b| b.node.as_str()).collect();
            self.fail(format_args!("no cascade; errors spread to {}", nodes.join(", ")));
        }
    }

    fn after_the_fault(&self) -> Nanos {
        Nanos::from_nanos(((self.record.horizon_s - self.record.clear_s).max(0.0) * 1e9) as u64)
    }

    #[track_caller]
    fn fail(&self, expected: fmt::Arguments<'_>) -> ! {
        let thread = std::thread::current();
        let repeat = match thread.name() {
            Some("main") | None => "run this program again".to_owned(),
            Some(test) => format!("cargo test -- --exact {test}"),
        };
        panic!(
            "{} failed its rehearsal\n  expected: {expected}\n  seed:     {}\n  token:    {}\n  digest:   {}\n  repeat:   {repeat}",
            self.record.scenario, self.seed, self.record.token, self.record.digest
        );
    }
}

/// A request at a service of somebody's own, in the books: it is there from its sending to its answer, for nobody sees further in.
pub(super) struct Replaced {
    world: Rc<World>,
    node: u32,
    arrived: u64,
    presence: u64,
    over: bool,
}

impl Replaced {
    pub(super) fn begin(world: &Rc<World>, node: u32) -> Option<Replaced> {
        let s = world.service_of(node)?;
        world.replaced[s as usize].then(|| {
            let arrived = world.now();
            world.record(|recorder, now| recorder.arrived(node, now));
            Replaced { world: Rc::clone(world), node, arrived, presence: world.comes(node, arrived), over: false }
        })
    }

    /// It was answered; `None`: its connection broke.
    pub(super) fn end(mut self, answer: Option<super::wire::Answer>) {
        self.leave(match answer {
            Some(Ok(_)) => Left::Answered,
            Some(Err(models::system::Cause::Overload)) => Left::Refused,
            Some(Err(_)) => Left::Failed,
            None => Left::Killed,
        });
    }

    fn leave(&mut self, how: Left) {
        if !std::mem::replace(&mut self.over, true) {
            self.world.goes(self.presence);
            self.world.record(|recorder, now| recorder.left(self.node, now, self.arrived, how, false));
        }
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        self.leave(Left::Cancelled);
    }
}
