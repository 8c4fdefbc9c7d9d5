//! Keyed randomness: every draw is a fixed integer mix of the key of whatever it belongs to (DESIGN.md 7.1).
//!
//! You are here: `models::rng`. The engines derive keys and draw from them; worlds draw their numbers here too.
//! Always true: a draw depends on its own key, purpose and count alone: not on creation order, threads, or draws made elsewhere.
//! The mix is written out and pinned by tests: changing it changes every digest.
//! Not here: what a draw is turned into (`table`, [`Chance`]).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a draw decides. The numbers are part of the determinism contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Which path a request takes.
    Path = 1,
    /// How long a step of work takes.
    Work = 2,
    /// How long a client waits before it tries again.
    Backoff = 3,
    /// Whether an operation fails by itself.
    OwnError = 4,
    /// Whether a callee's failure fails its caller.
    OnFailure = 5,
    /// How often a call is repeated.
    Times = 6,
    /// Which replica a call goes to.
    Balance = 7,
    /// Which key a cache is asked for.
    CacheKey = 8,
    /// Whether a fault strikes, and how hard.
    Fault = 9,
    /// What one uncertain number is worth in one world.
    World = 10,
    /// Which key a message is about.
    MessageKey = 11,
    /// How long a user thinks before the next request.
    Think = 12,
    /// How long it is from one arrival to the next.
    Arrival = 13,
}

/// A 64-bit name of a request, attempt, message or replica. Keys form a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

impl Key {
    /// The key of one attempt of one repetition of the call made at `site` by the attempt that `self` names.
    #[inline]
    pub fn child(self, site: u32, repetition: u16, attempt: u16) -> Key {
        let word = (u64::from(site) << 32) | (u64::from(repetition) << 16) | u64::from(attempt);
        Key(mix(self.0.wrapping_add(word.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(0xD1B5_4A32_D192_ED03)))
    }

    /// The n-th draw for one purpose: 64 uniform bits.
    #[inline]
    pub fn draw(self, purpose: Purpose, n: u32) -> u64 {
        self.draw_of(DrawName::new(purpose, n))
    }

    /// The draw of this name.
    #[inline(always)]
    pub fn draw_of(self, name: DrawName) -> u64 {
        mix(self.0 ^ name.0)
    }
}

/// Purpose and number of a draw, prepared: for draws that are made often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrawName(u64);

impl DrawName {
    /// The n-th draw for one purpose.
    #[inline]
    pub fn new(purpose: Purpose, n: u32) -> Self {
        let word = (u64::from(purpose as u32) << 32) | u64::from(n);
        DrawName(word.wrapping_mul(0xA24B_AED4_963E_E407))
    }
}

/// A bijection of 64-bit words whose output bits all depend on all input bits ("moremur": Pelle Evensen, 2019, constants of
/// his variant of the murmur finaliser).
#[inline]
pub fn mix(mut x: u64) -> u64 {
    x ^= x >> 27;
    x = x.wrapping_mul(0x3C79_AC49_2BA7_B653);
    x ^= x >> 33;
    x = x.wrapping_mul(0x1C69_B3F7_4AC4_AE35);
    x ^ (x >> 27)
}

/// The source of the keys of one entry's user requests: ChaCha8 of the run's seed, one stream per site.
#[derive(Clone, Debug)]
pub struct KeyStream(ChaCha8Rng);

impl KeyStream {
    /// The stream number `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        KeyStream(rng)
    }

    /// The next 64 uniform bits.
    #[inline]
    pub fn next_bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// The next key.
    #[inline]
    pub fn next_key(&mut self) -> Key {
        Key(self.next_bits())
    }
}

/// A probability in fixed point (2^-64): decided by integer comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    /// Never.
    pub const NEVER: Chance = Chance(0);
    /// Always.
    pub const ALWAYS: Chance = Chance(u64::MAX);

    /// With probability `p`; below 0 is never, 1 and above always.
    pub fn of(p: f64) -> Self {
        if p >= 1.0 { Chance::ALWAYS } else { Chance((p.max(0.0) * 18_446_744_073_709_551_616.0) as u64) }
    }

    /// With probability `p` in 2^-16; from 1 on always.
    pub fn of_q16(p: u64) -> Self {
        if p >= 1 << 16 { Chance::ALWAYS } else { Chance(p << 48) }
    }

    /// Whether it can happen at all.
    #[inline]
    pub fn may_hit(self) -> bool {
        self.0 > 0
    }

    /// Whether it happens for these uniform bits.
    #[inline]
    pub fn hits(self, bits: u64) -> bool {
        bits < self.0 || self.0 == u64::MAX
    }
}

/// A uniform whole number in 0..n for these uniform bits (0 for n = 0).
#[inline]
pub fn below(bits: u64, n: u64) -> u64 {
    ((u128::from(bits) * u128::from(n)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These values are the contract: if one changes, every digest does, and the changelog must say so.
    #[test]
    fn the_first_values_of_generator_and_mix_are_pinned() {
        let mut stream = KeyStream::new(42, 0);
        let first = stream.next_key();
        expect_test::expect!["ae90bfb5395d5ba1"].assert_eq(&format!("{:016x}", first.0));
        expect_test::expect!["b77fa8618dc9e890"].assert_eq(&format!("{:016x}", KeyStream::new(42, 1).next_bits()));
        expect_test::expect!["6866ceff36209adf"].assert_eq(&format!("{:016x}", first.child(3, 0, 1).0));
        expect_test::expect!["87c4e0f8edb00f47"].assert_eq(&format!("{:016x}", first.draw(Purpose::Work, 0)));
    }

    #[test]
    fn chances_are_exact_at_both_ends_and_right_between() {
        assert!(!Chance::of(0.0).hits(0));
        assert!(Chance::of(1.0).hits(u64::MAX));
        let hits = (0..100_000).filter(|&n| Chance::of(0.3).hits(Key(7).draw(Purpose::Fault, n))).count();
        // Binomial(100 000, 0.3): standard deviation 145; four of them.
        assert!((29_420..=30_580).contains(&hits), "{hits}");
    }

    #[test]
    fn keys_of_a_tree_do_not_collide() {
        let mut seen = std::collections::BTreeSet::new();
        for site in 0..50 {
            for repetition in 0..20 {
                for attempt in 0..20 {
                    assert!(seen.insert(Key(1).child(site, repetition, attempt)));
                }
            }
        }
    }
}
