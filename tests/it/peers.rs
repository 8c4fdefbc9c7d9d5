//! The hand-written program that the kernel's speed is held against does the same work, with the results that theory gives.

#[path = "../../benches/peers/chain3.rs"]
mod chain3;

#[test]
fn the_hand_written_chain_has_the_attempts_and_the_response_time_of_theory() {
    const REQUESTS: u64 = 300_000;
    let (mean_s, attempts) = chain3::chain3(REQUESTS, 1);
    let p: f64 = 0.05;
    // C is tried until it succeeds, four times at most; A and B once each, as four failures in a row are rare.
    let tries_of_c = (1.0 - p.powi(4)) / (1.0 - p);
    // The variance of tries is about p / (1 - p)^2; 3.3 deviations of the mean are its 99.9 % interval.
    let deviation = (p / ((1.0 - p) * (1.0 - p)) / REQUESTS as f64).sqrt();
    assert!((attempts - 2.0 - tries_of_c).abs() < 3.3 * deviation, "{attempts} attempts");

    // Own work of 20 ms a try, mean backoffs of 25, 50 and 100 ms; 16 workers at 39 % make nobody wait.
    let expected_s = 0.020 * (2.0 + tries_of_c) + 0.025 * p + 0.050 * p * p + 0.100 * p.powi(3);
    let deviation = (3.0 * 0.020_f64.powi(2) + 0.025_f64.powi(2) * 2.0 * p).sqrt() / (REQUESTS as f64).sqrt();
    assert!((mean_s - expected_s).abs() < 3.3 * deviation, "{mean_s} s, expected {expected_s} s");
}
