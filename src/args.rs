//! Every command, every flag, and its help.
//!
//! You are here: `args`. `main` parses, `commands` acts.
//! Not here: what a flag does (`commands`), or the exit codes' meaning (`exit`).

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use models::trace::CsvMap;
use models::units::Nanos;

use crate::exit;

/// Offline failure rehearsal: traces in, a ranked and explained list of failures worth worrying about out.
///
/// Foreshock learns how a distributed system behaves from its traces, rehearses thousands of seeded failures of it, and says which few
/// are worth running for real. Every run is reproducible bit for bit from the token printed beside it.
#[derive(Debug, Parser)]
#[command(name = "foreshock", version, max_term_width = 110, after_help = exit::HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands: `run` does the main job at once, the others are its stages and single runs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Traces to a ranked report in one go; without traces, on the demo data that this program carries.
    #[command(after_help = "Examples:\n  \
        foreshock run -o out                            the demo, beside what really happened\n  \
        foreshock run traces/ --with known.yaml -o out  your traces and your configuration\n  \
        zcat spans.jsonl.gz | foreshock run - --seeds 50 -o out\n\n\
        The same command again resumes an interrupted run and adds only the runs that are missing.")]
    Run(Run),
    /// Traces to a model: services, call paths, service times, retries, each number with where it came from.
    #[command(
        after_help = "Examples:\n  foreshock learn traces/ -o model.yaml\n  foreshock learn spans.json.gz --json -o model.yaml\n  \
        foreshock learn traces/ --backcast -o model.yaml    and how well it foretells its own traffic\n  \
        foreshock learn --jaeger https://jaeger.example.org --since 2h -o model.yaml\n  \
        foreshock learn spans.csv --csv-map 'trace=Trace,span=Id,parent=Parent,service=Service,operation=Name,start=Start:ms,duration=Took:ms'\n  \
        foreshock learn traces/ --with known.yaml --with manifests.yaml --names names.yaml -o model.yaml"
    )]
    Learn(Learn),
    /// Shows a model, or what traces say: services, calls, hot spots, surprises, assumptions.
    #[command(after_help = "Examples:\n  foreshock inspect model.yaml\n  foreshock inspect traces/ | less\n  \
        foreshock inspect traces/ --backcast --html page.html --svg graph.svg")]
    Inspect(Inspect),
    /// Proposes fault scenarios for a model, the most worrying first, each with the evidence.
    #[command(after_help = "Example:\n  foreshock suggest model.yaml --scenarios 50 -o scenarios.yaml")]
    Suggest(Suggest),
    /// Runs the scenarios of a file, each under several seeds, and reports.
    #[command(after_help = "Example:\n  foreshock sweep model.yaml scenarios.yaml --seeds 20 --horizon 120s -o out")]
    Sweep(Sweep),
    /// Ranks the finished runs of a folder again, without simulating.
    #[command(after_help = "Example:\n  foreshock rank out --json | jq '.scenarios[0]'")]
    Rank(Rank),
    /// One run of one scenario (or of none), with its numbers.
    #[command(after_help = "Examples:\n  foreshock simulate model.yaml --seed 1 --horizon 10min --warmup 30s\n  \
        foreshock simulate model.yaml scenario.yaml --seed 1 --horizon 120s --json\n  \
        foreshock simulate model.yaml --otlp spans.jsonl    its spans, for Jaeger, Tempo, or `foreshock learn`")]
    Simulate(Simulate),
    /// Repeats the run that a token names and compares its digest.
    #[command(after_help = "Examples:\n  foreshock replay TOKEN --in out\n  \
        foreshock replay TOKEN --until 61.5s --events events.jsonl --otlp spans.jsonl\n\n\
        Exit code 0: the same digest; 1: another digest; 2: the model or scenario was not found.")]
    Replay(Replay),
    /// Runs the short list of a ranking on the second engine too, real async code over a simulated network, and compares.
    #[command(after_help = "Example:\n  foreshock verify out/ranking.json --top 20\n\n\
        Of the user requests that a fault changes, `equal` is the share with the same end in both engines to the microsecond; under\n\
        another fault (`other fault`) or none it has to be small, or the comparison would say nothing.\n\n\
        Exit code 1: with --at-least, a scenario's engines agree on a smaller share.")]
    Verify(Verify),
    /// Tells what happened in the run that a token names, in order of time, and what kept it broken.
    #[command(
        after_help = "Examples:\n  foreshock explain TOKEN --in out\n  foreshock explain TOKEN --in out --json | jq '.sustained.singles'\n\n\
        What kept it broken is found by further runs with the same luck: one thing is taken away at a time (the retries of an edge, a long \
        queue, work for callers who have left, all calls on an edge for a while); where no single one helps, a smallest set is looked for."
    )]
    Explain(Explain),
    /// The smallest scenario and model that still fail as the run that a token names.
    #[command(
        after_help = "Examples:\n  foreshock shrink TOKEN --in out -o small\n  foreshock shrink TOKEN --in out --keep cascade -o small\n\n\
        Leaves out faults and services (delta debugging), then shortens and weakens what is left, and the load, as long as it fails in the same \
        way. The result is an output folder: replay and explain take it."
    )]
    Shrink(Shrink),
    /// Holds a model against statements, for CI: exit code 1 if one of them does not hold.
    #[command(after_help = "Examples:\n  foreshock check checks.yaml --junit checks.xml --markdown checks.md\n  \
        foreshock check --example > checks.yaml             statements to begin with, and a workflow that runs them\n  \
        foreshock check checks.yaml --model out/model.yaml --scenarios out/scenarios.yaml\n\n\
        Each case is run with one seed after the other until it is clear whether it holds (a sequential test that stays right however early \
        it stops). What can be shown neither way counts as not holding. Failing runs go to -o, where replay, explain and shrink find them.")]
    Check(Check),
    /// Prints the JSON Schema of a file format.
    #[command(after_help = "Example:\n  foreshock schema model > model.schema.json")]
    Schema(Schema),
}

impl Command {
    /// How many threads it may use; `None`: as many as there are cores.
    pub fn threads(&self) -> Option<NonZeroUsize> {
        match self {
            Command::Run(args) => args.effort.threads,
            Command::Learn(args) => args.threads,
            Command::Inspect(args) => args.threads,
            Command::Sweep(args) => args.effort.threads,
            _ => None,
        }
    }
}

/// What is read and how.
#[derive(Debug, Args)]
pub struct Traces {
    /// Trace files, folders of them, or `-` for standard input (OTLP, Jaeger, Zipkin, Tempo or tables of spans, plain or compressed;
    /// graph summaries of Kiali, Jaeger dependencies and service-graph metrics too).
    #[arg(value_name = "TRACES")]
    pub traces: Vec<PathBuf>,
    /// How they are read.
    #[command(flatten)]
    pub reading: Reading,
}

/// How traces are read.
#[derive(Debug, Args)]
pub struct Reading {
    /// What configuration says. A partial model: worker counts, queue bounds, timeouts, deadlines, retries or hedges, pools, breakers,
    /// shedding, autoscaling, health checks, cache lifetimes, what topics promise, closed loops; `foreshock schema model` has every key. Or manifests: Kubernetes Deployments, StatefulSets and
    /// HorizontalPodAutoscalers, Istio VirtualServices and DestinationRules. May be given several times; the later ones win.
    #[arg(long, value_name = "KNOWN.yaml")]
    pub with: Vec<PathBuf>,
    /// Which column of a table of spans (CSV) is what, such as
    /// trace=TraceID,span=SpanID,parent=Parent,service=Service,operation=Op,start=Begin:ms,duration=Took:us (units: ns, us, ms, s).
    #[arg(long, value_name = "MAP", value_parser = CsvMap::parse)]
    pub csv_map: Option<CsvMap>,
    /// Names of services: `names: { cart: [cartservice, "cart-*"] }` joins spellings, `keep: [orders-1]` stops rules from doing so.
    #[arg(long, value_name = "NAMES.yaml")]
    pub names: Option<PathBuf>,
    /// Share of traces that head sampling kept, such as 0.01; the rates are divided by it.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub sampling: Option<f64>,
    /// Stop at the first bad record instead of skipping and listing it.
    #[arg(long)]
    pub strict: bool,
    /// Users come at the rates that the traffic shows over time, where these change beyond chance, instead of at one rate. Time 0 is the
    /// recording's start.
    #[arg(long)]
    pub curve: bool,
    /// Learn from the first two thirds of the traffic too, foretell the last third with that, and keep in the model how well it went, at
    /// every boundary.
    #[arg(long)]
    pub backcast: bool,
    /// What is fetched from live systems.
    #[command(flatten)]
    pub live: Live,
}

/// Where the help lists what concerns live systems.
const LIVE: &str = "Live sources (credentials: FORESHOCK_TOKEN, or FORESHOCK_USER and FORESHOCK_PASSWORD)";

/// What is fetched from live systems before reading. Credentials come from the environment alone: FORESHOCK_TOKEN, or FORESHOCK_USER and
/// FORESHOCK_PASSWORD (FORESHOCK_JAEGER_TOKEN and so on for one source), FORESHOCK_TENANT.
#[derive(Debug, Args)]
pub struct Live {
    /// Fetch traces from the Jaeger query service at this address.
    #[arg(long, help_heading = LIVE, value_name = "URL")]
    pub jaeger: Option<String>,
    /// Fetch traces from Grafana Tempo.
    #[arg(long, help_heading = LIVE, value_name = "URL")]
    pub tempo: Option<String>,
    /// Fetch traces from Zipkin.
    #[arg(long, help_heading = LIVE, value_name = "URL")]
    pub zipkin: Option<String>,
    /// Fetch the graph of Kiali (its address usually ends in /kiali).
    #[arg(long, help_heading = LIVE, value_name = "URL")]
    pub kiali: Option<String>,
    /// How far back.
    #[arg(long, help_heading = LIVE, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub since: Nanos,
    /// Until when, such as 2026-11-24T12:00:00Z [default: now].
    #[arg(long, help_heading = LIVE, value_name = "TIME", value_parser = moment)]
    pub until: Option<u64>,
    /// Folder for what is fetched; what is there already is not fetched again.
    #[arg(long, help_heading = LIVE, value_name = "DIR", default_value = "foreshock-pull")]
    pub pull_into: PathBuf,
    /// Services to ask Jaeger for [default: all].
    #[arg(long, help_heading = LIVE, value_name = "NAME")]
    pub service: Vec<String>,
    /// Namespaces to ask Kiali for [default: all].
    #[arg(long, help_heading = LIVE, value_name = "NAME")]
    pub namespace: Vec<String>,
    /// Most traces asked for at once; where there are more, time is cut finer.
    #[arg(long, help_heading = LIVE, value_name = "N", default_value = "500")]
    pub pull_limit: NonZeroU32,
    /// Most requests per second.
    #[arg(long, help_heading = LIVE, value_name = "N", default_value = "10")]
    pub pull_rate: NonZeroU32,
}

impl Live {
    /// Whether anything is to be fetched.
    pub fn is_asked_for(&self) -> bool {
        [&self.jaeger, &self.tempo, &self.zipkin, &self.kiali].into_iter().any(Option::is_some)
    }
}

/// How much is simulated.
#[derive(Debug, Args)]
pub struct Effort {
    /// Seeds per scenario.
    #[arg(long, value_name = "N", default_value = "10")]
    pub seeds: NonZeroU32,
    /// The first seed; the others follow it.
    #[arg(long, value_name = "BASE", default_value_t = 1)]
    pub seed: u64,
    /// Simulated time of a run.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    pub horizon: Nanos,
    /// Simulated time left out of the statistics.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub warmup: Nanos,
    /// 0: the model's values as written; from 1 on, each uncertain number is drawn from its range.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub world: u32,
    /// Threads; results are the same with any number [default: all cores].
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// The engine.
    #[arg(long, value_enum, default_value_t)]
    pub engine: Engine,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The traces.
    #[command(flatten)]
    pub input: Traces,
    /// Folder for everything that is written.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Scenarios in all, those of --add included.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub scenarios: usize,
    /// How much is simulated.
    #[command(flatten)]
    pub effort: Effort,
    /// Further scenarios, written by hand; they come first (`foreshock schema scenarios` has every kind of fault and its magnitude).
    #[arg(long, value_name = "SCENARIOS.yaml")]
    pub add: Option<PathBuf>,
    /// What live experiments with scenarios of the same id showed; stands beside the predictions.
    #[arg(long, value_name = "OUTCOMES.json")]
    pub live: Option<PathBuf>,
    /// Print the ranking as JSON instead of the summary.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `learn`.
#[derive(Debug, Args)]
pub struct Learn {
    /// The traces.
    #[command(flatten)]
    pub input: Traces,
    /// Where the model goes; `-` is standard output.
    #[arg(short, long, value_name = "MODEL.yaml")]
    pub output: Option<PathBuf>,
    /// Print what was read as JSON.
    #[arg(long)]
    pub json: bool,
    /// Threads; the model is the same with any number [default: all cores].
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// A model file, or trace files, folders, or `-`.
    #[arg(value_name = "MODEL|TRACES", required_unless_present_any = ["jaeger", "tempo", "zipkin", "kiali"])]
    pub inputs: Vec<PathBuf>,
    /// How they are read.
    #[command(flatten)]
    pub reading: Reading,
    /// Draw who calls whom.
    #[arg(long, value_name = "GRAPH.svg")]
    pub svg: Option<PathBuf>,
    /// Write everything as one page that needs no network.
    #[arg(long, value_name = "PAGE.html")]
    pub html: Option<PathBuf>,
    /// Print the same as JSON.
    #[arg(long)]
    pub json: bool,
    /// Threads; what is shown is the same with any number [default: all cores].
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// Arguments of `suggest`.
#[derive(Debug, Args)]
pub struct Suggest {
    /// The model.
    pub model: PathBuf,
    /// Where the scenarios go [default: standard output].
    #[arg(short, long, value_name = "SCENARIOS.yaml")]
    pub output: Option<PathBuf>,
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub scenarios: usize,
    /// Simulated time of the runs that the scenarios are meant for.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    pub horizon: Nanos,
    /// Print them as JSON instead.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `sweep`.
#[derive(Debug, Args)]
pub struct Sweep {
    /// The model.
    pub model: PathBuf,
    /// The scenarios.
    pub scenarios: PathBuf,
    /// Folder for everything that is written.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// How much is simulated.
    #[command(flatten)]
    pub effort: Effort,
    /// What live experiments with scenarios of the same id showed.
    #[arg(long, value_name = "OUTCOMES.json")]
    pub live: Option<PathBuf>,
    /// Print the ranking as JSON instead of the summary.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rank`.
#[derive(Debug, Args)]
pub struct Rank {
    /// A folder that `run` or `sweep` wrote.
    pub dir: PathBuf,
    /// What live experiments with scenarios of the same id showed.
    #[arg(long, value_name = "OUTCOMES.json")]
    pub live: Option<PathBuf>,
    /// Print the ranking as JSON instead of the summary.
    #[arg(long)]
    pub json: bool,
}

/// Which engine runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// Discrete events: fast, and in use unless told otherwise.
    #[default]
    Kernel,
    /// Real async code over a simulated network: a thousand times slower, in whole milliseconds.
    Hosted,
}

impl From<Engine> for scenarios::token::Engine {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Kernel => scenarios::token::Engine::Kernel,
            Engine::Hosted => scenarios::token::Engine::Hosted,
        }
    }
}

/// Arguments of `simulate`.
#[derive(Debug, Args)]
pub struct Simulate {
    /// The model.
    pub model: PathBuf,
    /// A scenario file; without it nothing fails.
    pub scenario: Option<PathBuf>,
    /// Which scenario of the file, if it holds several.
    #[arg(long, value_name = "ID", alias = "scenario")]
    pub id: Option<String>,
    /// The run's seed.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Simulated time.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    pub horizon: Nanos,
    /// Simulated time left out of the statistics.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub warmup: Nanos,
    /// 0: the model's values as written; from 1 on, each uncertain number is drawn from its range.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub world: u32,
    /// The engine.
    #[arg(long, value_enum, default_value_t)]
    pub engine: Engine,
    /// Let the kernel's clock know whole multiples of this alone, as the hosted engine's knows whole milliseconds.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub quantum: Option<Nanos>,
    /// Add the course over time, in buckets of 250 ms, to the JSON.
    #[arg(long, requires = "json")]
    pub series: bool,
    /// Write what tracing would have recorded: OTLP JSON, one export request a line.
    #[arg(long, value_name = "SPANS.jsonl")]
    pub otlp: Option<PathBuf>,
    /// Share of the traces that are written.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share, requires = "otlp")]
    pub otlp_share: f64,
    /// Print the numbers as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The ranking.json of a folder that `run` or `sweep` wrote, or that folder.
    pub ranking: PathBuf,
    /// How many scenarios, from the top of the ranking.
    #[arg(long, value_name = "N", default_value = "20")]
    pub top: NonZeroUsize,
    /// Seeds per scenario.
    #[arg(long, value_name = "N", default_value = "1")]
    pub seeds: NonZeroU32,
    /// The first seed; the others follow it.
    #[arg(long, value_name = "BASE", default_value_t = 1)]
    pub seed: u64,
    /// Share of the affected requests that has to be equal in every scenario.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub at_least: Option<f64>,
    /// Threads; results are the same with any number [default: all cores].
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print the comparison as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// Names the run: from ranking.json, outcomes.csv or the report.
    pub token: String,
    /// Where model and scenario are looked for [default: the newest output folder here].
    #[arg(long = "in", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Stop at this time of the run, and print its numbers so far.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub until: Option<Nanos>,
    /// Write every event, one JSON object a line: time_ns, kind, place, key, and since_ns for what ends; `-` is standard output.
    #[arg(long, value_name = "EVENTS.jsonl")]
    pub events: Option<PathBuf>,
    /// Write the run's spans as OTLP JSON, so that Jaeger or Tempo show a failure that has not happened yet.
    #[arg(long, value_name = "SPANS.jsonl")]
    pub otlp: Option<PathBuf>,
    /// Print the comparison as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Names the run: from ranking.json, outcomes.csv or the report.
    pub token: String,
    /// Where model and scenario are looked for [default: the newest output folder here].
    #[arg(long = "in", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Most further runs that look for what kept it broken.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub runs: u32,
    /// Threads; the story is the same with any number [default: all cores].
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print the evidence as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `shrink`.
#[derive(Debug, Args)]
pub struct Shrink {
    /// Names the run: from ranking.json, outcomes.csv or the report.
    pub token: String,
    /// Where model and scenario are looked for [default: the newest output folder here].
    #[arg(long = "in", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Folder for what is left.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// In which way it has to go on failing [default: the worst in which it does].
    #[arg(long, value_name = "WAY", value_parser = ["metastable", "cascade", "stale_writes", "duplicate_effects", "dead_letters", "breach"])]
    pub keep: Option<String>,
    /// Most runs.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(3..))]
    pub runs: u32,
    /// Print what was reduced as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The statements (`foreshock schema checks` has every key).
    #[arg(value_name = "CHECKS.yaml", required_unless_present = "example")]
    pub checks: Option<PathBuf>,
    /// The model, instead of the one that the file names.
    #[arg(long, value_name = "MODEL.yaml")]
    pub model: Option<PathBuf>,
    /// The scenarios, instead of those that the file names.
    #[arg(long, value_name = "SCENARIOS.yaml")]
    pub scenarios: Option<PathBuf>,
    /// Folder for failing runs; nothing is written if all checks hold.
    #[arg(short, long, value_name = "DIR", default_value = "check-failures")]
    pub output: PathBuf,
    /// The first seed; the others follow it.
    #[arg(long, value_name = "BASE", default_value_t = 1)]
    pub seed: u64,
    /// Write the results as JUnit XML.
    #[arg(long, value_name = "FILE.xml")]
    pub junit: Option<PathBuf>,
    /// Write the results as GitHub-flavoured Markdown, such as for $GITHUB_STEP_SUMMARY.
    #[arg(long, value_name = "FILE.md")]
    pub markdown: Option<PathBuf>,
    /// Print an example of a file and of a workflow, and do nothing else.
    #[arg(long)]
    pub example: bool,
    /// Threads; results are the same with any number [default: all cores].
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print the results as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct Schema {
    /// Which format.
    pub format: Format,
}

/// The published file formats.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Format {
    /// model.yaml, and what --with takes.
    Model,
    /// scenarios.yaml.
    Scenarios,
    /// checks.yaml.
    Checks,
    /// ranking.json.
    Ranking,
}

/// A duration with a unit, above zero unless it is written as zero.
fn duration(text: &str) -> Result<Nanos, String> {
    Nanos::parse(text).ok_or_else(|| "expected a duration with a unit (ns, us, ms, s, min or h), such as 120s".to_owned())
}

/// A point of time.
fn moment(text: &str) -> Result<u64, String> {
    crate::pull::time::parse(text).ok_or_else(|| "expected a time in UTC, such as 2026-11-24T12:00:00Z".to_owned())
}

/// A share above 0, at most 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("expected a share above 0 and at most 1, such as 0.01".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("foreshock {}", command.get_name());
            assert!(help.contains(&example), "{} shows no example", command.get_name());
        }
    }
}
