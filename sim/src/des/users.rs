//! User requests by number: how each ended, and whether it met a faulted target.
//!
//! You are here: `sim::des::users`. `recorder` holds one [`Users`]; verdicts compare a run's requests with those of its twin.
//! Always true: a request's number depends on its own entry alone (index x entries + entry; those that a surge added are marked by the top
//! bit), so the same number is the same request in every run of a seed. Only requests that arrive while somebody wants them are kept.

/// Marks the numbers of requests that a surge added.
pub(crate) const SURGE: u32 = 1 << 31;
/// A user request that failed, among latencies in microseconds.
pub(crate) const FAILED: u32 = u32::MAX;
/// A user request that never took place, or whose end is not known yet.
pub(crate) const UNFINISHED: u32 = u32::MAX - 1;
/// A number that nobody has had since requests are kept.
pub(crate) const ABSENT: u32 = u32::MAX - 2;
/// The longest latency told apart, in microseconds (71 minutes).
const SLOWEST: u32 = u32::MAX - 3;
/// Requests may arrive between two looks at [`Users::is_full`].
const SPARE: u64 = 1 << 16;

/// Requests of one entry, by index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    /// Index of the first kept.
    pub(crate) first: u32,
    /// Latency in microseconds, [`FAILED`], [`UNFINISHED`] or [`ABSENT`].
    pub(crate) us: Vec<u32>,
    /// Bit i: request `first + i` met a faulted target.
    touched: Vec<u64>,
    /// Indices of those that were not done when the run ended, in no order.
    open: Vec<u32>,
}

impl Requests {
    fn arrived(&mut self, index: u32) {
        if self.us.is_empty() {
            self.first = index;
        }
        self.us.push(UNFINISHED);
    }

    fn place(&self, index: u32) -> Option<usize> {
        let at = index.wrapping_sub(self.first) as usize;
        (at < self.us.len()).then_some(at)
    }

    /// How a request ended; [`ABSENT`] if it is not kept.
    pub(crate) fn get(&self, index: u32) -> u32 {
        self.place(index).map_or(ABSENT, |at| self.us[at])
    }

    /// From an index on.
    pub(crate) fn from(&self, index: u32) -> &[u32] {
        let at = index.saturating_sub(self.first) as usize;
        &self.us[at.min(self.us.len())..]
    }

    /// How many were not done when the run ended.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    fn touch(&mut self, index: u32) {
        if let Some(at) = self.place(index) {
            if self.touched.len() <= at / 64 {
                self.touched.resize(at / 64 + 1, 0);
            }
            self.touched[at / 64] |= 1 << (at % 64);
        }
    }

    /// Whether request `first + at` met a faulted target.
    pub(crate) fn was_touched(&self, at: usize) -> bool {
        self.touched.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }
}

/// Requests of one entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfEntry {
    /// How many have arrived of its own, and added by surges.
    arrived: u64,
    arrived_surged: u64,
    /// By user, if they wait for their answers: the number of the next request of each.
    next_of_user: Vec<u32>,
    pub(crate) own: Requests,
    pub(crate) surged: Requests,
}

/// All user requests of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Users {
    kept: bool,
    entries: Vec<OfEntry>,
    /// Most that have arrived of one entry, at its own or a surge's: when numbers run out.
    most: u64,
}

impl Users {
    pub(crate) fn new(entries: usize, kept: bool) -> Self {
        Users { kept, entries: vec![OfEntry::default(); entries], most: 0 }
    }

    /// What a run that goes on from here has to know: the counts, but none of the requests so far.
    pub(crate) fn fork(&self) -> Self {
        let entry = |e: &OfEntry| OfEntry {
            arrived: e.arrived,
            arrived_surged: e.arrived_surged,
            next_of_user: e.next_of_user.clone(),
            ..OfEntry::default()
        };
        Users { kept: true, entries: self.entries.iter().map(entry).collect(), most: self.most }
    }

    /// How many entries there are.
    pub(crate) fn entries(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn entry(&self, entry: usize) -> &OfEntry {
        &self.entries[entry]
    }

    /// User requests so far, those of surges included.
    pub(crate) fn arrivals(&self) -> u64 {
        self.entries.iter().map(|e| e.arrived + e.arrived_surged).sum()
    }

    /// Whether the numbers are about to run out.
    pub(crate) fn is_full(&self) -> bool {
        self.kept && (self.most + SPARE) * self.entries.len() as u64 >= u64::from(SURGE)
    }

    /// What decides the numbers of requests to come, for comparing states. Surges are over where states are compared.
    pub(super) fn words(&self, mut put: impl FnMut(u64)) {
        for entry in &self.entries {
            put(entry.arrived);
            entry.next_of_user.iter().for_each(|&nth| put(u64::from(nth)));
        }
    }

    fn number(&self, entry: u32, index: u64) -> u32 {
        let number = index as u32;
        number.wrapping_mul(self.entries.len() as u32).wrapping_add(entry) & !SURGE
    }

    /// Entry and index of a number.
    fn split(&self, number: u32) -> (usize, u32) {
        let number = number & !SURGE;
        match self.entries.len() as u32 {
            1 => (0, number),
            entries => ((number % entries) as usize, number / entries),
        }
    }

    fn requests(&mut self, number: u32) -> (&mut Requests, u32) {
        let (entry, index) = self.split(number);
        let entry = &mut self.entries[entry];
        (if number & SURGE == 0 { &mut entry.own } else { &mut entry.surged }, index)
    }

    /// A request arrives; returns its number. `wanted`: it is kept.
    #[inline]
    pub(crate) fn arrived(&mut self, entry: u32, surge: bool, wanted: bool) -> u32 {
        let wanted = wanted && self.kept;
        let e = &mut self.entries[entry as usize];
        let (count, requests) = if surge { (&mut e.arrived_surged, &mut e.surged) } else { (&mut e.arrived, &mut e.own) };
        let index = *count;
        *count += 1;
        self.most = self.most.max(*count);
        if wanted {
            requests.arrived(index as u32);
        }
        self.number(entry, index) | if surge { SURGE } else { 0 }
    }

    /// The `nth` request of one of an entry's `users` arrives; returns its number. Their order is not that of their numbers.
    pub(crate) fn arrived_nth(&mut self, entry: u32, user: u32, nth: u32, users: u32, wanted: bool) -> u32 {
        let wanted = wanted && self.kept;
        let e = &mut self.entries[entry as usize];
        e.arrived += 1;
        self.most = self.most.max(e.arrived);
        let index = u64::from(nth) * u64::from(users) + u64::from(user);
        if self.kept {
            // (In the order of a user's own requests, so the last is the highest.)
            if e.next_of_user.len() < users as usize {
                e.next_of_user.resize(users as usize, 0);
            }
            e.next_of_user[user as usize] = nth + 1;
        }
        if wanted {
            let least = index as usize + 1;
            if e.own.us.len() < least {
                e.own.us.resize(least, ABSENT);
            }
            e.own.us[index as usize] = UNFINISHED;
        }
        self.number(entry, index)
    }

    /// A request is over. One that is not kept is not looked for.
    #[inline]
    pub(crate) fn ended(&mut self, number: u32, latency: u64, failed: bool) {
        if !self.kept {
            return;
        }
        let (requests, index) = self.requests(number);
        if let Some(at) = requests.place(index)
            && requests.us[at] == UNFINISHED
        {
            requests.us[at] = if failed { FAILED } else { (latency / 1_000).min(u64::from(SLOWEST)) as u32 };
        }
    }

    /// A request is not done when the run ends; it counts as one that lasted until then.
    pub(crate) fn unfinished(&mut self, number: u32, lasted: u64) {
        self.ended(number, lasted, false);
        let (requests, index) = self.requests(number);
        if requests.place(index).is_some() {
            requests.open.push(index);
        }
    }

    /// A request met a faulted target.
    #[inline]
    pub(crate) fn touch(&mut self, number: u32) {
        if self.kept && number & SURGE == 0 {
            let (requests, index) = self.requests(number);
            requests.touch(index);
        }
    }

    /// Whether it did, if it is kept. Those that a surge added always did.
    #[cfg(test)]
    pub(crate) fn was_touched(&self, number: u32) -> bool {
        let (entry, index) = self.split(number);
        let own = &self.entries[entry].own;
        number & SURGE != 0 || own.place(index).is_some_and(|at| own.was_touched(at))
    }

    /// From here on these requests are the twin's: so end those that are `open`, and all that arrive later.
    pub(crate) fn splice(&mut self, twin: &Users, open: impl Iterator<Item = u32>) {
        self.most = self.most.max(twin.most);
        for number in open {
            let (entry, index) = self.split(number);
            let own = &mut self.entries[entry].own;
            // (One that arrived before those that are kept is not looked for.)
            if let Some(at) = own.place(index)
                && own.us[at] == UNFINISHED
            {
                own.us[at] = twin.entries[entry].own.get(index);
            }
        }
        for (mine, theirs) in self.entries.iter_mut().zip(&twin.entries) {
            let next = std::mem::replace(&mut mine.arrived, theirs.arrived) as u32;
            let users = mine.next_of_user.len();
            let (mine_us, their_us) = (&mut mine.own.us, &theirs.own.us);
            if users == 0 {
                if mine_us.is_empty() {
                    mine.own.first = next;
                }
                mine_us.extend_from_slice(theirs.own.from(next));
            } else {
                mine_us.resize(mine_us.len().max(their_us.len()), ABSENT);
                for (user, &nth) in mine.next_of_user.iter().enumerate() {
                    for index in (nth as usize * users + user..their_us.len()).step_by(users) {
                        mine_us[index] = their_us[index];
                    }
                }
            }
            let own = &mine.own;
            let open = theirs.own.open.iter().copied().filter(|&index| !matches!(own.get(index), ABSENT | UNFINISHED));
            mine.own.open = open.collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_says_whose_request_it_is_whatever_other_entries_do() {
        let (mut a, mut b) = (Users::new(3, true), Users::new(3, true));
        for _ in 0..5 {
            b.arrived(0, false, true);
            b.arrived(1, true, true);
        }
        assert_eq!(a.arrived(1, false, true), b.arrived(1, false, true));
        assert_eq!(a.arrived(1, false, true), 4, "second of entry 1 among three");
        assert_eq!(a.arrived(1, true, true), 1 | SURGE);
        assert_eq!(a.arrivals(), 3);
        a.ended(4, 7_000_000, false);
        a.ended(1 | SURGE, 0, true);
        a.touch(4);
        assert_eq!(
            (a.entry(1).own.us.as_slice(), a.entry(1).surged.us.as_slice()),
            ([UNFINISHED, 7_000].as_slice(), [FAILED].as_slice())
        );
        assert_eq!([4, 1, 1 | SURGE].map(|n| a.was_touched(n)), [true, false, true]);
    }

    #[test]
    fn those_who_arrived_before_are_not_mistaken_for_those_who_are_kept() {
        let mut users = Users::new(1, true);
        let early = users.arrived(0, false, false);
        let kept = users.arrived(0, false, true);
        users.ended(early, 1_000, true);
        users.touch(early);
        assert_eq!(
            (users.entry(0).own.first, users.entry(0).own.get(early), users.entry(0).own.get(kept)),
            (1, ABSENT, UNFINISHED)
        );
        users.ended(kept, u64::MAX, false);
        assert_eq!(users.entry(0).own.get(kept), SLOWEST);
        assert!(!users.was_touched(early) && !users.was_touched(kept));
    }

    #[test]
    fn users_who_wait_for_answers_are_known_by_their_turn() {
        let (mut slow, mut fast) = (Users::new(2, true), Users::new(2, true));
        let number = fast.arrived_nth(1, 2, 4, 3, true);
        fast.arrived_nth(1, 0, 0, 3, true);
        slow.arrived_nth(1, 0, 0, 3, false);
        assert_eq!(slow.arrived_nth(1, 2, 4, 3, true), number);
        slow.ended(number, 5_000, false);
        assert_eq!(slow.entry(1).own.get(14), 5);
        assert_eq!((slow.entry(1).own.get(0), slow.entry(1).own.get(3)), (ABSENT, ABSENT));
    }

    #[test]
    fn after_the_seam_all_ends_as_in_the_twin() {
        let (mut run, mut twin) = (Users::new(1, true), Users::new(1, true));
        for n in 0..6 {
            twin.arrived(0, false, true);
            twin.ended(n, u64::from(n + 1) * 1_000, false);
        }
        for wanted in [false, true, true, true] {
            run.arrived(0, false, wanted);
        }
        run.ended(1, 0, true);
        // 2 never took place, 3 is under way.
        run.splice(&twin, [3].into_iter());
        assert_eq!(run.entry(0).own.us, [FAILED, UNFINISHED, 4, 5, 6]);
        assert_eq!((run.entry(0).own.first, run.arrivals()), (1, 6));
        let mut silent = Users::new(1, true).fork();
        silent.splice(&twin, std::iter::empty());
        assert_eq!(silent.entry(0).own.us, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn after_the_seam_users_who_wait_for_answers_go_on_as_in_the_twin() {
        let (mut run, mut twin) = (Users::new(1, true), Users::new(1, true));
        for (user, nth) in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (0, 3), (1, 2)] {
            let number = twin.arrived_nth(0, user, nth, 2, true);
            twin.ended(number, u64::from(number + 1) * 1_000, false);
        }
        run.arrived_nth(0, 0, 0, 2, false);
        run.arrived_nth(0, 1, 0, 2, false);
        let mut run = run.fork();
        let number = run.arrived_nth(0, 0, 1, 2, true);
        run.ended(number, 0, true);
        run.splice(&twin, std::iter::empty());
        // Users 0 and 1 in turn; what came before the fork is nobody's business.
        assert_eq!(run.entry(0).own.us, [ABSENT, ABSENT, FAILED, 4, 5, 6, 7]);
    }

    #[test]
    fn numbers_run_out_only_where_somebody_keeps_them() {
        let mut users = Users::new(1, true);
        users.entries[0].arrived = u64::from(SURGE) - SPARE - 2;
        users.arrived(0, false, true);
        assert!(!users.is_full());
        users.arrived(0, false, true);
        assert!(users.is_full());
        users.kept = false;
        assert!(!users.is_full());
    }
}
