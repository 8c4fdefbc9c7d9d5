//! Cache-aside: the cache is asked, then on a miss or any failure the store behind it, and the cache is filled.
//!
//! You are here: `sim::hosted::lookup`. `client` comes here for branches that are lookups.
//! Always true: with single flight one request of a caller's replica asks the store for a key, and the others wait for its answer; if it goes
//! away before it has one, the next in line asks.

use std::cell::Cell;
use std::rc::Rc;

use models::rng::Purpose;
use models::system::Cause;
use tokio::sync::Notify;

use super::client::{About, Ended, Parent, call, call_once};
use super::world::{Origin, World};
use crate::program::{NONE, Tables, popular};

/// A question to a store that others wait for.
#[derive(Debug, Default)]
pub(super) struct Flight {
    answer: Cell<Option<Result<(), Cause>>>,
    landed: Notify,
}

pub(super) async fn look_up(world: &Rc<World>, parent: &Parent, lookup: u32, repetition: u16) -> Ended {
    let p = world.p();
    let l = &p.lookups[lookup as usize];
    let cache_key = key_of(p, parent, lookup);
    let asked = call_once(world, parent, l.ask, repetition, About { cache_key, fills: false }).await;
    if asked.answer == Ok(true) {
        return asked;
    }
    tokio::task::yield_now().await;
    let ended = match parent.origin {
        Origin::Replica(r) if l.single_flight => {
            let of = (lookup, r, cache_key);
            loop {
                let flight = world.flights.borrow().get(&of).cloned();
                let Some(flight) = flight else {
                    let leads = Leads { world, of, flight: Rc::default() };
                    world.flights.borrow_mut().insert(of, Rc::clone(&leads.flight));
                    let ended = call_once(world, parent, l.origin, repetition, About::NOTHING).await;
                    leads.flight.answer.set(Some(ended.answer.map(drop)));
                    break ended;
                };
                let landed = flight.landed.notified();
                landed.await;
                if let Some(answer) = flight.answer.get() {
                    // What a failure means is asked of the store's site, with the follower's own luck.
                    let key = parent.key.child(p.sites[l.origin as usize].site, repetition, 0);
                    let ended = Ended { answer: answer.map(|()| false), site: l.origin, key };
                    return or_fallback(world, parent, ended, repetition).await;
                }
            }
        }
        _ => call_once(world, parent, l.origin, repetition, About::NOTHING).await,
    };
    if ended.answer.is_ok() {
        fill(world, parent, lookup, repetition, cache_key);
    }
    or_fallback(world, parent, ended, repetition).await
}

/// Which key of the cache a request is about.
fn key_of(p: &Tables, parent: &Parent, lookup: u32) -> u32 {
    let l = &p.lookups[lookup as usize];
    let cache = p.services[l.cache as usize].cache.as_ref().expect("compiled lookups ask caches");
    let bits = parent.line.draw(Purpose::CacheKey, p.sites[l.ask as usize].site);
    popular(&cache.popularity, bits)
}

/// Gives the cache what the store answered; nobody waits for that.
fn fill(world: &Rc<World>, parent: &Parent, lookup: u32, repetition: u16, cache_key: u32) {
    let l = &world.p().lookups[lookup as usize];
    if l.fill == NONE {
        let now = world.now();
        world.contents.borrow_mut()[l.cache as usize].as_mut().expect("lookups ask caches").store(cache_key, now);
        return;
    }
    let (shared, parent, site) = (Rc::clone(world), Parent { degraded: Rc::default(), ..parent.clone() }, l.fill);
    world.spawn(parent.origin, async move {
        call(&shared, &parent, site, repetition, About { cache_key, fills: true }).await;
    });
}

/// What a store's failure leads to.
async fn or_fallback(world: &Rc<World>, parent: &Parent, ended: Ended, repetition: u16) -> Ended {
    match world.p().sites[ended.site as usize].fallback {
        fallback if ended.answer.is_err() && fallback != NONE => {
            parent.degraded.set(true);
            tokio::task::yield_now().await;
            call(world, parent, fallback, repetition, About::NOTHING).await
        }
        _ => ended,
    }
}

/// The one who asks.
struct Leads<'a> {
    world: &'a World,
    of: (u32, u32, u32),
    flight: Rc<Flight>,
}

impl Drop for Leads<'_> {
    fn drop(&mut self) {
        self.world.flights.borrow_mut().remove(&self.of);
        self.flight.landed.notify_waiters();
    }
}
