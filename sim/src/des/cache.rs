//! A cache's contents: which keys are in it, least recently used out first.

use crate::program::{CacheP, NONE};

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
}

impl Contents {
    /// Warm: it holds the most popular keys, the most popular one used last.
    pub(crate) fn warm(cache: &CacheP) -> Self {
        let mut contents = Contents {
            capacity: cache.capacity,
            links: vec![Link { newer: OUT, older: NONE }; cache.keys as usize],
            newest: NONE,
            oldest: NONE,
            len: 0,
        };
        for key in (0..cache.capacity).rev() {
            contents.store(key);
        }
        contents
    }

    /// Nothing is in it any more.
    pub(crate) fn clear(&mut self) {
        self.links.fill(Link { newer: OUT, older: NONE });
        (self.newest, self.oldest, self.len) = (NONE, NONE, 0);
    }

    /// Whether the key is in it; if so it is now the one used last.
    pub(crate) fn ask(&mut self, key: u32) -> bool {
        let hit = self.links[key as usize].newer != OUT;
        if hit {
            self.unlink(key);
            self.link(key);
        }
        hit
    }

    /// Puts a key in; the least recently used one leaves if it was full.
    pub(crate) fn store(&mut self, key: u32) {
        if self.capacity == 0 || self.ask(key) {
            return;
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

    #[test]
    fn the_least_recently_used_key_leaves_first() {
        let mut contents = Contents::warm(&CacheP { capacity: 3, keys: 10, popularity: Vec::new() });
        assert!(contents.ask(2) && contents.ask(1) && contents.ask(0));
        contents.store(7);
        assert!(!contents.ask(2), "2 was used longest ago");
        assert!(contents.ask(1) && contents.ask(0) && contents.ask(7));
        contents.clear();
        assert!(!contents.ask(0));
        contents.store(5);
        assert!(contents.ask(5));
    }

    #[test]
    fn the_hit_ratio_is_that_of_a_list_that_moves_to_front() {
        use models::rng::{Key, Purpose, below};
        let mut contents = Contents::warm(&CacheP { capacity: 20, keys: 100, popularity: Vec::new() });
        let mut list: Vec<u32> = (0..20).collect();
        for n in 0..10_000 {
            let key = below(Key(5).draw(Purpose::CacheKey, n), 100).min(below(Key(6).draw(Purpose::CacheKey, n), 100)) as u32;
            let hit = list.contains(&key);
            assert_eq!(contents.ask(key), hit);
            list.retain(|&k| k != key);
            list.insert(0, key);
            list.truncate(20);
            contents.store(key);
        }
    }
}
