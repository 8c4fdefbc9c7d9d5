fn main() {
    let file = std::env::args().nth(1).unwrap();
    let text = std::fs::read(&file).unwrap();
    let model = models::format::read_model(&file, &text).unwrap_or_else(|e| panic!("{e}"));
    let program = sim::Program::compile(&model, 0).unwrap();
    let secs: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let options = sim::RunOptions { horizon: models::units::Nanos::from_secs(secs), ..Default::default() };
    let t = std::time::Instant::now();
    let run = sim::Prepared::new(&program, &Default::default(), &options).unwrap().run();
    let dt = t.elapsed().as_secs_f64();
    let mut r = run.result();
    r.series = None;
    println!("{}", serde_json::to_string_pretty(&r).unwrap());
    eprintln!("{:.3}s {:.0} req/s {:.2} Mev/s", dt, r.requests as f64 / dt, r.events as f64 / dt / 1e6);
}
