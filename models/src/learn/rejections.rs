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
    // Errors that come quickly whatever the load lie below; most refusals lie at the bound itself.
    let holds = quantile(&levels, 0.9) as u32;
    // Clocks and exporters blur who was there by a few.
    let slack = holds / 50 + 1;
    let is_near = |r: u32| level(r) + slack >= holds;
    let near = quick.iter().filter(|&&r| is_near(r)).count();
    let served = |from: u32| requests.iter().filter(|&&r| !log.requests[r as usize].failed && level(r) >= from).count();
    let refuses = near >= ENOUGH && holds >= 2 && served(holds + slack) * 50 <= near && served(holds) * 5 <= near;
    // Where there is room, quick errors must be far rarer than at the bound.
    let below = requests.iter().filter(|&&r| !is_near(r)).count();
    if !refuses || (quick.len() - near) * 4 > below {
        return None;
    }
    for r in quick {
        rejected[r as usize] = is_near(r);
    }
    levels.retain(|&level| level as u32 + slack >= holds);
    let range = [quantile(&levels, 0.05) as u32, quantile(&levels, 0.95) as u32];
    Some(Full { holds, range: [range[0].min(holds), range[1].max(holds)] })
}
