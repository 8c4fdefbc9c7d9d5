//! Queue bounds, from requests that were refused at the door.
//!
//! You are here: `models::learn::rejections`, beside `load`. The signature: requests that fail at once, without calls, and only while
//! the replica holds as many others as it ever does. That number is workers and waiting places together.
//! Always true: errors that strike whatever the load are not taken for refusals.

use std::collections::BTreeMap;

use super::log::Log;
use super::numbers::{median, quantile};

/// Refusals that must be seen.
const ENOUGH: usize = 5;
/// At once: within this part of what requests usually take.
const AT_ONCE: u64 = 10;

/// How many requests a replica holds when it refuses more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) holds: u32,
    /// What fits about as well.
    pub(super) range: [u32; 2],
}

/// Finds the refusals among the requests of one service, and marks them. `level[request]`: others present when it came.
pub(super) fn find(log: &Log, requests: &[u32], level: &dyn Fn(u32) -> u32, rejected: &mut [bool]) -> Option<Full> {
    let mut usual: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for &r in requests {
        let request = &log.requests[r as usize];
        if !request.failed {
            usual.entry(request.op).or_default().push(request.duration());
        }
    }
    let usual: BTreeMap<u32, u64> = usual.into_iter().map(|(op, mut times)| (op, median(&mut times))).collect();
    let at_once = |&&r: &&u32| {
        let request = &log.requests[r as usize];
        let limit = usual.get(&request.op).map_or(0, |usual| usual / AT_ONCE);
        request.failed && request.calls.is_empty() && request.duration() <= limit
    };
    let quick: Vec<u32> = requests.iter().filter(at_once).copied().collect();
    if quick.len() < ENOUGH {
        return None;
    }
    let mut levels: Vec<u64> = quick.iter().map(|&r| u64::from(level(r))).collect();
    levels.sort_unstable();
    let holds = quantile(&levels, 0.5) as u32;
    // Clocks and exporters blur who was there by a few.
    let slack = holds / 50 + 1;
    let near = quick.iter().filter(|&&r| level(r) + slack >= holds).count();
    let beyond = |&&r: &&u32| !log.requests[r as usize].failed && level(r) >= holds + slack;
    let served_beyond = requests.iter().filter(beyond).count();
    let served_there = requests.iter().filter(|&&r| !log.requests[r as usize].failed && level(r) == holds).count();
    if holds < 2 || near * 10 < quick.len() * 8 || served_beyond * 50 > quick.len() || served_there * 5 > quick.len() {
        return None;
    }
    for r in quick {
        rejected[r as usize] = level(r) + slack >= holds;
    }
    let range = [quantile(&levels, 0.05) as u32, quantile(&levels, 0.95) as u32];
    Some(Full { holds, range: [range[0].min(holds), range[1].max(holds)] })
}
