//! The second engine: every modelled service as real async code on turmoil's simulated network.
//!
//! You are here: `sim::hosted`. [`run`] is one run. Reading order: `world` is what all hosts share, `users` call, `client` is the caller's side
//! with its policies, `pool` its connections, `wire` what goes over them, `service` and `visit` the callee's side, `gate` its workers, `lookup`
//! asks caches, `broker` is a topic, `faults` what is done to them all.
//! ```text
//! users ──▶ client ──▶ pool ══HTTP/1.1 over turmoil══▶ service ──▶ visit ──▶ client ──▶ …
//! ```
//! Always true: the same compiled program, scenario, keyed draws and books as the kernel's, so that the two engines can be compared request by
//! request; time passes in whole milliseconds, and a message is under way for one at least (as in a program compiled by
//! [`Program::compile_quantised`]).
//!
//! Known differences from the kernel, and their size: who is refused by a process that is down hears of it after one round trip, not after
//! one way; a reset after a crash arrives one way later; a service that cancels on disconnect hears of that one way later; a caller whose
//! spare connections are used up waits one round trip for another; events of the same millisecond may come in another order.

mod broker;
mod client;
mod faults;
mod gate;
mod lookup;
mod own;
mod pool;
mod service;
mod users;
mod visit;
mod wire;
mod world;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use scenarios::scenario::Scenario;

use crate::SimError;
use crate::des::{FaultPlan, Keep, Recorder};
use crate::program::{NodeKind, Program, Tables};
use crate::run::{Finished, RunOptions, check_horizon};
use crate::sweep::judged_buckets;
use crate::twin::Twin;
use faults::Timeline;
use own::Software;
use world::{TICK_NS, World};

pub use own::{Outcome, Own, Rehearsal};
/// The network that services of somebody's own run on; the version that they have to use.
pub use turmoil;
pub use wire::CONTEXT;

/// Hosts that one simulation may have: turmoil looks at every pair of them in every step.
pub const MOST_HOSTS: usize = 120;

/// The clock's step.
pub const TICK: models::units::Nanos = models::units::Nanos::from_nanos(TICK_NS);

/// Runs a scenario to its horizon.
///
/// # Errors
/// A scenario that does not fit the model, a horizon that is too long, what the engine cannot do ([`SimError::Hosted`]): more than
/// [`MOST_HOSTS`] hosts, a build without `--cfg tokio_unstable`.
pub fn run(program: &Program, scenario: &Scenario, options: &RunOptions) -> Result<Finished, SimError> {
    let plan = FaultPlan::new(program, scenario)?;
    let keep = if options.series { Keep::Series } else { Keep::Totals };
    let mut recorder = Recorder::new(&program.0);
    recorder.keep(&program.0, keep, options.warm_up.as_nanos());
    recorder.watch_edges(&program.0);
    simulate(program, plan, scenario.load(), options, recorder, &[])
}

/// A fault-free run, which others are judged by. The program has passed [`check`].
pub(crate) fn twin(program: &Program, load: f64, options: &RunOptions) -> Twin {
    let plan = FaultPlan::new(program, &Scenario::default()).expect("no fault fits every program");
    let mut recorder = Recorder::new(&program.0);
    recorder.keep(&program.0, Keep::Judged, options.warm_up.as_nanos());
    Twin::of_hosted(simulate(program, plan, load, options, recorder, &[]).expect("stand-ins never fail"))
}

/// A run that is to be judged beside its twin. The program has passed [`check`].
pub(crate) fn judged(program: &Program, plan: &Arc<FaultPlan>, load: f64, options: &RunOptions, twin: &Twin) -> Finished {
    let mut recorder = Recorder::new(&program.0);
    recorder.keep(&program.0, Keep::Judged, options.warm_up.as_nanos());
    let (start, end) = judged_buckets(plan, options);
    recorder.judge_from(start, end, &twin.wide);
    simulate(program, Arc::clone(plan), load, options, recorder, &[]).expect("stand-ins never fail")
}

/// Runs a plan to the horizon, with books that are ready.
pub(crate) fn simulate(
    program: &Program,
    plan: Arc<FaultPlan>,
    load: f64,
    options: &RunOptions,
    recorder: Recorder,
    own: &[(u32, Software)],
) -> Result<Finished, SimError> {
    check_horizon(options.horizon)?;
    check(program)?;
    let p = &*program.0;
    let replaced = (0..p.services.len() as u32).map(|s| own.iter().any(|(service, _)| *service == s)).collect();
    let world = Rc::new(World::new(program, options.seed, load, plan, recorder, replaced));
    let mut sim = build(&world, options, own);
    let ran = steps(&world, &mut sim, options);
    world.over.set(true);
    drop(sim);
    let truncated = ran.map_err(|error| SimError::Hosted(format!("the simulated network stopped: {error}")))?;
    let world = Rc::try_unwrap(world).unwrap_or_else(|_| unreachable!("its hosts are gone"));
    let mut recorder = world.recorder.into_inner();
    recorder.end(world.between.get());
    Ok(Finished::hosted(program, recorder, world.digest.get(), world.events.get(), truncated, options))
}

/// Whether this engine can run it.
pub(crate) fn check(program: &Program) -> Result<(), SimError> {
    if !cfg!(tokio_unstable) {
        return Err(SimError::Hosted(
            "it was built without `--cfg tokio_unstable`, and would not be deterministic; build it in its own repository, whose \
             .cargo/config.toml sets that, or set RUSTFLAGS"
                .to_owned(),
        ));
    }
    let p = &*program.0;
    let hosts = reachable(p).iter().filter(|&&there| there).count();
    if hosts > MOST_HOSTS {
        return Err(SimError::Hosted(format!(
            "{hosts} hosts would be needed, and {MOST_HOSTS} is the most that one simulation of the network can have; use the kernel"
        )));
    }
    Ok(())
}

/// Which nodes can be reached from an entry: only these get a host.
fn reachable(p: &Tables) -> Vec<bool> {
    let mut there: Vec<bool> = p.nodes.iter().map(|node| node.kind == NodeKind::Entry).collect();
    loop {
        let before = there.iter().filter(|&&there| there).count();
        for edge in &p.edges {
            there[edge.to_node as usize] |= there[edge.from_node as usize];
        }
        if there.iter().filter(|&&there| there).count() == before {
            return there;
        }
    }
}

/// How many hosts a program needs.
pub fn hosts(program: &Program) -> usize {
    reachable(&program.0).iter().filter(|&&there| there).count()
}

/// Builds the network with its hosts.
fn build(world: &Rc<World>, options: &RunOptions, own: &[(u32, Software)]) -> turmoil::Sim<'static> {
    let p = world.p();
    let tick = Duration::from_nanos(TICK_NS);
    let mut sim = turmoil::Builder::new()
        .tick_duration(tick)
        .simulation_duration(Duration::from_nanos(options.horizon.as_nanos() + world.lead) + 2 * tick)
        .min_message_latency(tick)
        .max_message_latency(tick)
        .tcp_capacity(1 << 14)
        .ephemeral_ports(10_000..=u16::MAX)
        .rng_seed(options.seed)
        .epoch(UNIX_EPOCH)
        .build();
    let there = reachable(p);
    for node in (0..p.nodes.len()).filter(|&node| there[node]) {
        let (name, shared) = (world.hosts[node].clone(), Rc::clone(world));
        let place = (node
            - match p.nodes[node].kind {
                NodeKind::Entry => 0,
                NodeKind::Service => p.entries.len(),
                NodeKind::Topic => p.entries.len() + p.services.len(),
            }) as u32;
        match p.nodes[node].kind {
            NodeKind::Entry => sim.host(name, move || users::software(Rc::clone(&shared), place)),
            NodeKind::Service if let Some((_, software)) = own.iter().find(|(s, _)| *s == place) => {
                let software = Rc::clone(software);
                sim.host(name, move || own::software(Rc::clone(&shared), place, Rc::clone(&software)));
            }
            NodeKind::Service => sim.host(name, move || service::software(Rc::clone(&shared), place)),
            NodeKind::Topic => sim.host(name, move || broker::software(Rc::clone(&shared), place)),
        }
    }
    let address = |node: usize| there[node].then(|| sim.lookup(world.hosts[node].as_str()));
    let addresses: Vec<_> = (0..p.nodes.len()).map(address).collect();
    for edge in &p.edges {
        if let (Some(from), Some(to)) = (addresses[edge.from_node as usize], addresses[edge.to_node as usize])
            && from != to
        {
            // turmoil's links are symmetric: of two edges in opposite directions the slower one counts.
            let back = p.edges.iter().find(|other| (other.from_node, other.to_node) == (edge.to_node, edge.from_node));
            let latency = edge.latency.max(back.map_or(0, |back| back.latency)).next_multiple_of(TICK_NS).max(TICK_NS);
            sim.set_link_latency(from, to, Duration::from_nanos(latency));
        }
    }
    *world.addresses.borrow_mut() = addresses;
    sim
}

/// Steps to the horizon; true if so much happened that the run had to end early.
fn steps(world: &World, sim: &mut turmoil::Sim, options: &RunOptions) -> turmoil::Result<bool> {
    for _ in 0..world.lead / TICK_NS {
        sim.step()?;
    }
    let mut timeline = Timeline::new(world);
    let (horizon, warm_up) = (options.horizon.as_nanos(), options.warm_up.as_nanos().next_multiple_of(TICK_NS));
    loop {
        let now = world.between.get();
        close_buckets(world, now);
        if now > 0 && now == warm_up {
            world.recorder.borrow_mut().warmed_up(now);
        }
        let full = world.events.get() >= options.max_events || world.recorder.borrow().is_full();
        if now >= horizon || full {
            let open: Vec<_> = world.open_users.borrow().iter().map(|(&number, &began)| (number, began)).collect();
            for (number, began) in open {
                world.recorder.borrow_mut().user_unfinished(number, now - began);
            }
            return Ok(now < horizon);
        }
        timeline.strike(world, sim);
        sim.step()?;
        world.between.set(now + TICK_NS);
    }
}

fn close_buckets(world: &World, now: u64) {
    while world.recorder.borrow().bucket_end <= now {
        let mut recorder = world.recorder.borrow_mut();
        #[cfg(debug_assertions)]
        recorder.audit(world.present.borrow().values().copied());
        recorder.close_bucket(|node| world.depth(node));
    }
}

#[cfg(test)]
mod tests;
