//! Users: open loops with their curves, bursts and surges, and closed loops.
//!
//! You are here: `sim::hosted::users`. turmoil runs [`software`] on a host of each entry.
//! Always true: arrivals have the kernel's times, to the tick, and its keys.

use std::rc::Rc;

use models::rng::{Chance, Key, Purpose};

use super::client::{About, Parent, call};
use super::pool;
use super::world::{Origin, World};
use crate::des::Mark;
use crate::des::arrivals::{Stream, key_of_request, users_of};
use crate::program::{FAR_NS, NONE, ONE_Q16};

/// What runs on an entry's host.
pub(super) async fn software(world: Rc<World>, entry: u32) -> turmoil::Result {
    pool::prime(&world, Origin::Entry(entry), entry);
    tokio::time::sleep(std::time::Duration::from_nanos(world.lead)).await;
    let p = world.p();
    let e = &p.entries[entry as usize];
    if e.closed.is_some() {
        let users = users_of(p, world.seed, world.load, entry);
        let count = users.len() as u32;
        for (number, key) in users.into_iter().enumerate() {
            tokio::task::spawn_local(one_user(Rc::clone(&world), entry, number as u32, count, key));
        }
    } else if e.active && world.load > 0.0 {
        let stream = Stream::new(p, world.seed, entry, world.load, None, 0);
        tokio::task::spawn_local(arrivals(Rc::clone(&world), stream));
    }
    for (number, fault) in world.plan.faults.iter().enumerate() {
        if let Some(factor) = fault.surges(entry).filter(|&factor| factor > 1.0 && e.active && e.closed.is_none()) {
            let (world, begin) = (Rc::clone(&world), fault.start);
            let surge = Some((number as u32, fault.end));
            tokio::task::spawn_local(async move {
                world.until(begin).await;
                let stream = Stream::new(world.p(), world.seed, entry, world.load * (factor - 1.0), surge, world.now());
                arrivals(world, stream).await;
            });
        }
    }
    std::future::pending().await
}

/// Lets the requests of a stream come.
async fn arrivals(world: Rc<World>, mut stream: Stream) {
    while let Some(at) = stream.next(world.p()) {
        if at >= FAR_NS {
            return;
        }
        world.until(at).await;
        let key = stream.next_key;
        if let Some(fault) = stream.surge {
            let level_q16 = world.plan.faults[fault as usize].level_q16(world.now());
            if level_q16 < ONE_Q16 && !Chance::of_q16(level_q16).hits(key.draw(Purpose::Fault, 1)) {
                continue; // the surge has not reached its height yet, or is falling
            }
        }
        let mut number = NONE;
        world.record(|recorder, _| number = recorder.user_arrived(stream.entry, stream.surge.is_some()));
        let (active, thin) = {
            let effects = world.effects.borrow();
            let effect = &effects.entries[stream.entry as usize];
            (effect.active, effect.thin)
        };
        if thin.is_some_and(|keep| !keep.hits(key.draw(Purpose::Fault, 0))) {
            continue;
        }
        if active {
            world.touch(number);
        }
        tokio::task::spawn_local(request(Rc::clone(&world), stream.entry, number, key));
    }
}

/// One user of a closed loop.
async fn one_user(world: Rc<World>, entry: u32, user: u32, users: u32, key: Key) {
    let closed = world.p().entries[entry as usize].closed.expect("users belong to closed loops");
    for asked in 0.. {
        let think = world.p().tables[closed.think as usize].draw(key.draw(Purpose::Think, asked));
        world.sleep(think).await;
        let mut number = NONE;
        world.record(|recorder, _| number = recorder.user_arrived_nth(entry, user, asked, users));
        if world.effects.borrow().entries[entry as usize].active {
            world.touch(number);
        }
        request(Rc::clone(&world), entry, number, key_of_request(key, asked)).await;
    }
}

/// One request, from the user's click to what came of it.
async fn request(world: Rc<World>, entry: u32, number: u32, key: Key) {
    let began = world.now();
    world.note(Mark::UserArrives, entry, key, 0);
    world.open_users.borrow_mut().insert(number, began);
    let parent = Parent {
        origin: Origin::Entry(entry),
        key,
        line: key,
        request: number,
        deadline: FAR_NS,
        degraded: Rc::default(),
        message: NONE,
    };
    let ended = call(&world, &parent, world.p().entries[entry as usize].call, 0, About::NOTHING).await;
    let failed = ended.answer.is_err();
    world.open_users.borrow_mut().remove(&number);
    world.note(if failed { Mark::UserFailed } else { Mark::UserDone }, entry, key, began);
    world.record(|recorder, now| recorder.user_ended(number, entry, now - began, failed));
}
