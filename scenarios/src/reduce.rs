//! The smallest thing that still fails: delta debugging, and the least of a number.
//!
//! You are here: `scenarios::reduce`. `shrink` reduces faults, services, times and magnitudes with it.
//! Always true: what is returned has been seen to fail (or is what was given); the same answers give the same result.
//! Not here: what is run to answer (the command line), how a model loses services ([`crate::prune`]).

/// Delta debugging (ddmin; Zeller and Hildebrandt, IEEE Transactions on Software Engineering 28 (2002), 183-200): a part of `items`, in their
/// order, that still fails, and none of whose members can be left out alone.
///
/// `fails` is asked of ever smaller parts; `None` ends the search with what there is by then. `items` as a whole is taken to fail.
/// O(items^2) questions at worst, O(log items) where one member is to blame.
pub fn ddmin<T: Clone>(items: &[T], mut fails: impl FnMut(&[T]) -> Option<bool>) -> Vec<T> {
    let mut kept = items.to_vec();
    let mut parts = 2;
    while kept.len() >= 2 {
        let size = kept.len().div_ceil(parts);
        let chunks: Vec<Vec<T>> = kept.chunks(size).map(<[T]>::to_vec).collect();
        let without =
            |i: usize| chunks.iter().enumerate().filter(|(j, _)| *j != i).flat_map(|(_, chunk)| chunk.clone()).collect();
        // With two parts the complement of one is the other.
        let subsets = chunks.iter().cloned().map(|subset| (subset, 2));
        let complements = (0..chunks.len()).filter(|_| chunks.len() > 2).map(|i| (without(i), parts - 1));
        let mut smaller = None;
        for (candidate, next) in subsets.chain(complements).collect::<Vec<(Vec<T>, usize)>>() {
            match fails(&candidate) {
                None => return kept,
                Some(true) => {
                    smaller = Some((candidate, next));
                    break;
                }
                Some(false) => {}
            }
        }
        match smaller {
            Some((candidate, next)) => (kept, parts) = (candidate, next.max(2)),
            None if parts >= kept.len() => break,
            None => parts = (2 * parts).min(kept.len()),
        }
    }
    kept
}

/// About the least part (0..=1) of something that still fails, to a tenth of itself: halves while it fails, then closes in. 1 where no less
/// part does. `None` from `fails` ends the search.
pub fn least_part(mut fails: impl FnMut(f64) -> Option<bool>) -> f64 {
    let (mut passing, mut failing) = (0.0, 1.0);
    for _ in 0..8 {
        if failing - passing <= failing / 10.0 {
            break;
        }
        let middle = (passing + failing) / 2.0;
        match fails(middle) {
            None => break,
            Some(true) => failing = middle,
            Some(false) => passing = middle,
        }
    }
    failing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_to_blame_is_left_out() {
        let items: Vec<u32> = (0..20).collect();
        let mut asked = 0;
        let found = ddmin(&items, |part| {
            asked += 1;
            Some(part.contains(&3) && part.contains(&17))
        });
        assert_eq!(found, [3, 17]);
        assert!(asked < 60, "{asked}");
        assert_eq!(ddmin(&items, |part| Some(part.contains(&7))), [7]);
        assert_eq!(ddmin(&items, |part| Some(part.len() == 20)), items, "all are needed");
        assert_eq!(ddmin(&[1], |_| panic!("one is as small as it gets")), [1]);
        assert_eq!(ddmin::<u32>(&[], |_| panic!("nothing to leave out")), Vec::<u32>::new());
    }

    #[test]
    fn no_member_of_what_is_found_can_be_left_out() {
        // Any three of the even ones do: not monotone in what is tried, but each answer is a real one.
        let fails = |part: &[u32]| part.iter().filter(|n| *n % 2 == 0).count() >= 3;
        let found = ddmin(&(0..30).collect::<Vec<u32>>(), |part| Some(fails(part)));
        assert_eq!(found.len(), 3);
        assert!(fails(&found));
    }

    #[test]
    fn a_search_that_may_ask_no_more_returns_what_has_failed() {
        let mut left = 3;
        let found = ddmin(&(0..16).collect::<Vec<u32>>(), |part| {
            left -= 1;
            (left >= 0).then(|| part.contains(&0))
        });
        assert_eq!(found, [0, 1]);
    }

    #[test]
    fn the_least_part_fails_and_little_less_does_not() {
        for border in [0.03, 0.2, 0.5, 0.99] {
            let part = least_part(|part| Some(part >= border));
            assert!(part >= border && part <= border * 1.2 + 0.01, "{border}: {part}");
        }
        assert_eq!(least_part(|_| Some(false)), 1.0);
        assert_eq!(least_part(|_| None), 1.0);
    }
}
