//! A cache's contents: which keys are in it and since when, least recently used out first.

use models::rng::{KeyStream, below};

use crate::program::{CacheP, FAR_NS, NONE};

/// Neighbours of a key in the order of use; `OUT` in `newer` marks a key that is not in the cache.
#[derive(Clone, Copy, Debug)]
struct Link {
    newer: u32,
    older: u32,
}

const OUT: u32 = u32::MAX - 1;

/// The contents.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    capacity: u32,
    links: Vec<Link>,
    newest: u32,
    oldest: u32,
    len: u32,
    /// Until when what is stored under each key is valid; empty where that is for ever.
    valid_until: Vec<u64>,
    ttl: u64,
}

impl Contents {
    /// Warm: it holds the most popular keys, the most popular one used last. Where they grow old, each is of another age, drawn.
    pub(crate) fn warm(cache: &CacheP, seed: u64) -> Self {
        let mut ages = KeyStream::new(seed, 1 << 63 | u64::from(cache.asked_at));
        let mut contents = Contents {
            capacity: cache.capacity,
            links: vec![Link { newer: OUT, older: NONE }; cache.keys as usize],
            newest: NONE,
            oldest: NONE,
            len: 0,
            valid_until: if cache.ttl < FAR_NS { vec![0; cache.keys as usize] } else { Vec::new() },
            ttl: cache.ttl,
        };
        for key in (0..cache.capacity).rev() {
            contents.store(key, 0);
            if let Some(valid_until) = contents.valid_until.get_mut(key as usize) {
                *valid_until -= below(ages.next_bits(), cache.ttl);
            }
        }
        contents
    }

    /// Nothing is in it any more.
    pub(crate) fn clear(&mut self) {
        self.links.fill(Link { newer: OUT, older: NONE });
        (self.newest, self.oldest, self.len) = (NONE, NONE, 0);
    }

    /// How many keys are in it.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The keys in it with the time until which they are valid (where contents grow old), the one used last first.
    pub(crate) fn by_use(&self, mut each: impl FnMut(u32, Option<u64>)) {
        let mut key = self.newest;
        while key != NONE {
            each(key, self.valid_until.get(key as usize).copied());
            key = self.links[key as usize].older;
        }
    }

    /// The least recently used share of what is in it (2^-16) is gone.
    pub(crate) fn evict(&mut self, share_q16: u64) {
        let gone = (u64::from(self.len) * share_q16).div_ceil(1 << 16) as u32;
        for _ in 0..gone.min(self.len) {
            self.unlink(self.oldest);
        }
    }

    /// Whether the key is in it and still valid; if so it is now the one used last.
    pub(crate) fn ask(&mut self, key: u32, now: u64) -> bool {
        if self.links[key as usize].newer == OUT {
            return false;
        }
        self.unlink(key);
        let valid = self.valid_until.get(key as usize).is_none_or(|&valid_until| now < valid_until);
        if valid {
            self.link(key);
        }
        valid
    }

    /// Puts a key in, valid from now; the least recently used one leaves if it was full.
    pub(crate) fn store(&mut self, key: u32, now: u64) {
        if self.capacity == 0 {
            return;
        }
        let known = self.links[key as usize].newer != OUT;
        if known {
            self.unlink(key);
        }
        if let Some(valid_until) = self.valid_until.get_mut(key as usize) {
            *valid_until = now + self.ttl;
        }
        if self.len == self.capacity {
            self.unlink(self.oldest);
        }
        self.link(key);
    }

    fn link(&mut self, key: u32) {
        self.links[key as usize] = Link { newer: NONE, older: self.newest };
        match self.newest {
            NONE => self.oldest = key,
            newest => self.links[newest as usize].newer = key,
        }
        self.newest = key;
        self.len += 1;
    }

    fn unlink(&mut self, key: u32) {
        let Link { newer, older } = self.links[key as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.links[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        self.links[key as usize] = Link { newer: OUT, older: NONE };
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warm(capacity: u32, keys: u32, ttl: u64) -> Contents {
        Contents::warm(&CacheP { capacity, keys, popularity: Vec::new(), ttl, asked_at: 0 }, 1)
    }

    #[test]
    fn the_least_recently_used_key_leaves_first() {
        let mut contents = warm(3, 10, FAR_NS);
        assert!(contents.ask(2, 0) && contents.ask(1, 0) && contents.ask(0, 0));
        contents.store(7, 0);
        assert!(!contents.ask(2, 0), "2 was used longest ago");
        assert!(contents.ask(1, 0) && contents.ask(0, 0) && contents.ask(7, 0));
        contents.clear();
        assert!(!contents.ask(0, 0));
        contents.store(5, 0);
        assert!(contents.ask(5, 0));
    }

    #[test]
    fn what_was_stored_is_valid_for_its_time_and_no_longer() {
        let mut contents = warm(3, 10, 100);
        contents.store(1, 50);
        assert!(contents.ask(1, 149), "asking does not make it younger");
        assert!(!contents.ask(1, 150) && !contents.ask(1, 150));
        contents.store(1, 250);
        assert!(contents.ask(1, 349) && !contents.ask(1, 350));
    }

    #[test]
    fn what_a_warm_cache_holds_is_of_every_age() {
        // Were it all of one age, it would all grow old at one instant, and the store behind it would be stormed without any fault.
        let ttl = 1_000_000;
        let mut contents = warm(1_000, 1_000, ttl);
        let mut valid_at = |now| (0..1_000).filter(|&key| contents.ask(key, now)).count();
        assert_eq!(valid_at(0), 1_000);
        // Binomial(1,000, 1/2): six standard deviations are 95.
        let half = valid_at(ttl / 2);
        assert!((405..=595).contains(&half), "{half}");
        assert_eq!(valid_at(ttl), 0);
    }

    #[test]
    fn a_flush_takes_the_least_recently_used_share() {
        let mut contents = warm(4, 10, FAR_NS);
        contents.evict(1 << 15);
        assert!(contents.ask(0, 0) && contents.ask(1, 0) && !contents.ask(2, 0) && !contents.ask(3, 0));
        contents.evict(1 << 16);
        assert!(!contents.ask(0, 0));
    }

    #[test]
    fn the_hit_ratio_is_that_of_a_list_that_moves_to_front() {
        use models::rng::{Key, Purpose, below};
        let mut contents = warm(20, 100, FAR_NS);
        let mut list: Vec<u32> = (0..20).collect();
        for n in 0..10_000 {
            let key = below(Key(5).draw(Purpose::CacheKey, n), 100).min(below(Key(6).draw(Purpose::CacheKey, n), 100)) as u32;
            let hit = list.contains(&key);
            assert_eq!(contents.ask(key, 0), hit);
            list.retain(|&k| k != key);
            list.insert(0, key);
            list.truncate(20);
            contents.store(key, 0);
        }
    }
}
