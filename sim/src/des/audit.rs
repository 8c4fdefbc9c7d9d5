//! The books of every station, held against each other bucket by bucket, in every test run (debug builds only).
//!
//! You are here: `sim::des::audit`. `recorder` tells it who comes and who leaves; at each bucket's close the kernel names those who are there.
//! Always true, or it panics: in flight at the start + arrived = finished in time + finished late + refused + cancelled + killed + in flight at
//! the end; the number present by the books is the number that is there; and Little's law as an identity: the integral of the number
//! present = the sum of everyone's presence, clipped to the bucket (ORACLES.md 1).

use super::recorder::Left;

/// One station, or topic, in the running bucket.
#[derive(Clone, Copy, Debug, Default)]
struct Station {
    at_start: u64,
    arrived: u64,
    in_time: u64,
    late: u64,
    refused: u64,
    cancelled: u64,
    killed: u64,
    present: u64,
    /// Until when `integral` counts.
    counted_to: u64,
    /// Number present x time.
    integral: u128,
    /// The presence in this bucket of those who have left.
    presence: u128,
}

impl Station {
    fn count_to(&mut self, now: u64) {
        self.integral += u128::from(self.present) * u128::from(now - self.counted_to);
        self.counted_to = now;
    }
}

/// All stations.
#[derive(Clone, Debug, Default)]
pub(super) struct Audit {
    bucket_start: u64,
    stations: Vec<Station>,
    /// Recount and presence of those who are there, as the kernel names them: scratch.
    there: Vec<(u64, u128)>,
}

impl Audit {
    pub(super) fn new(nodes: usize) -> Self {
        Audit { bucket_start: 0, stations: vec![Station::default(); nodes], there: Vec::new() }
    }

    pub(super) fn arrived(&mut self, node: u32, now: u64) {
        let station = &mut self.stations[node as usize];
        station.count_to(now);
        station.arrived += 1;
        station.present += 1;
    }

    pub(super) fn left(&mut self, node: u32, now: u64, arrived_at: u64, how: Left, late: bool) {
        let station = &mut self.stations[node as usize];
        station.count_to(now);
        assert!(station.present > 0, "{how:?} leaves node {node}, where nobody is");
        station.present -= 1;
        station.presence += u128::from(now - arrived_at.max(self.bucket_start));
        let count = match how {
            Left::Answered | Left::Failed if late => &mut station.late,
            Left::Answered | Left::Failed => &mut station.in_time,
            Left::Refused | Left::Shed => &mut station.refused,
            Left::Cancelled => &mut station.cancelled,
            Left::Killed => &mut station.killed,
        };
        *count += 1;
    }

    /// Whether the bucket that ends then has been closed.
    pub(super) fn is_closed_to(&self, end: u64) -> bool {
        self.bucket_start == end
    }

    /// Closes the bucket that ends at `end`. `there`: everyone who is present, with node and time of arrival; `books`: what the recorder
    /// says of each node, its number present and the integral of that over the bucket (`None` where it keeps none).
    pub(super) fn close(
        &mut self,
        end: u64,
        there: impl Iterator<Item = (u32, u64)>,
        books: impl Fn(usize) -> (u32, Option<u64>),
    ) {
        self.there.clear();
        self.there.resize(self.stations.len(), (0, 0));
        for (node, arrived_at) in there {
            let (count, presence) = &mut self.there[node as usize];
            *count += 1;
            *presence += u128::from(end - arrived_at.max(self.bucket_start));
        }
        for (n, station) in self.stations.iter_mut().enumerate() {
            station.count_to(end);
            let (count, presence) = self.there[n];
            let left = station.in_time + station.late + station.refused + station.cancelled + station.killed;
            assert_eq!(
                station.at_start + station.arrived,
                left + station.present,
                "node {n}, bucket to {end} ns: who was there and who came are not who left and who is there: {station:?}"
            );
            assert_eq!(
                station.present, count,
                "node {n}, bucket to {end} ns: the number present is not who is there: {station:?}"
            );
            assert_eq!(
                station.integral,
                station.presence + presence,
                "node {n}, bucket to {end} ns: Little's identity does not hold: {station:?}"
            );
            let (present, integral) = books(n);
            assert_eq!(u64::from(present), station.present, "node {n}, bucket to {end} ns: the recorder's number present");
            if let Some(integral) = integral {
                assert_eq!(u128::from(integral), station.integral, "node {n}, bucket to {end} ns: the recorder's integral");
            }
            *station = Station { at_start: station.present, present: station.present, counted_to: end, ..Station::default() };
        }
        self.bucket_start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two requests come, one leaves before the bucket ends at 100, one after; `change` breaks something.
    fn sequence(change: impl Fn(&mut Vec<(u32, u64)>, &mut (u32, Option<u64>), &mut Audit)) {
        let mut audit = Audit::new(2);
        audit.arrived(1, 10);
        audit.arrived(1, 30);
        audit.left(1, 50, 10, Left::Answered, false);
        let (mut there, mut books) = (vec![(1, 30)], (1, Some(40 + 70)));
        change(&mut there, &mut books, &mut audit);
        audit.close(100, there.into_iter(), |n| if n == 1 { books } else { (0, Some(0)) });
        audit.left(1, 130, 30, Left::Failed, true);
        audit.close(200, std::iter::empty(), |n| (0, Some(if n == 1 { 30 } else { 0 })));
    }

    #[test]
    fn books_that_are_right_pass() {
        sequence(|_, _, _| {});
    }

    #[test]
    #[should_panic(expected = "are not who left and who is there")]
    fn someone_who_vanishes_is_missed() {
        sequence(|there, _, audit| {
            audit.stations[1].present = 0;
            there.clear();
        });
    }

    #[test]
    #[should_panic(expected = "the number present is not who is there")]
    fn someone_who_was_never_told_of_is_found() {
        sequence(|there, _, _| there.push((1, 60)));
    }

    #[test]
    #[should_panic(expected = "the number present is not who is there")]
    fn someone_at_the_wrong_station_is_found() {
        sequence(|there, _, _| there[0].0 = 0);
    }

    #[test]
    #[should_panic(expected = "Little's identity does not hold")]
    fn a_wrong_time_of_arrival_is_found() {
        sequence(|there, _, _| there[0].1 = 31);
    }

    #[test]
    #[should_panic(expected = "Little's identity does not hold")]
    fn a_wrong_time_of_leaving_is_found() {
        sequence(|_, _, audit| audit.stations[1].presence += 1);
    }

    #[test]
    #[should_panic(expected = "the recorder's number present")]
    fn a_recorder_that_counts_wrongly_is_found() {
        sequence(|_, books, _| books.0 = 2);
    }

    #[test]
    #[should_panic(expected = "the recorder's integral")]
    fn a_recorder_that_integrates_wrongly_is_found() {
        sequence(|_, books, _| books.1 = Some(109));
    }

    #[test]
    #[should_panic(expected = "where nobody is")]
    fn nobody_leaves_twice() {
        sequence(|_, _, audit| {
            audit.left(1, 60, 30, Left::Cancelled, true);
            audit.left(1, 60, 30, Left::Killed, true);
        });
    }

    #[test]
    fn every_way_to_leave_has_its_column() {
        let mut audit = Audit::new(1);
        let mut now = 0;
        for how in [Left::Answered, Left::Failed, Left::Refused, Left::Shed, Left::Cancelled, Left::Killed] {
            for late in [false, true] {
                audit.arrived(0, now);
                audit.left(0, now + 2, now, how, late);
                now += 3;
            }
        }
        let s = audit.stations[0];
        assert_eq!((s.in_time, s.late, s.refused, s.cancelled, s.killed), (2, 2, 4, 2, 2));
        audit.close(now, std::iter::empty(), |_| (0, Some(24)));
    }
}
