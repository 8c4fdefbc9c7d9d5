//! What each command does: opens inputs, calls the crates, writes results.
//!
//! You are here: `commands`. One file a command; what several share is in `report` and `crate::work`.
//! Not here: anything that could be decided without files, clock or screen. That belongs to a crate.

use crate::args::Command;
use crate::exit::Failure;

pub mod backcast;
pub mod check;
pub mod doubt;
pub mod explain;
pub mod inspect;
pub mod junit;
pub mod learn;
pub mod rank;
pub mod replay;
pub mod report;
pub mod run;
pub mod schema;
pub mod shrink;
pub mod simulate;
pub mod suggest;
pub mod sweep;
pub mod verify;

/// Does what was asked, with no more threads than were asked for.
pub fn act(command: Command) -> Result<(), Failure> {
    if let Some(threads) = command.threads() {
        // Reading and learning use the pool that everybody shares; sweeps make one of their own, as large. It fails if there is one already.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global();
    }
    match command {
        Command::Run(args) => run::act(&args),
        Command::Learn(args) => learn::act(&args),
        Command::Inspect(args) => inspect::act(&args),
        Command::Suggest(args) => suggest::act(&args),
        Command::Sweep(args) => sweep::act(&args),
        Command::Rank(args) => rank::act(&args),
        Command::Simulate(args) => simulate::act(&args),
        Command::Replay(args) => replay::act(&args),
        Command::Verify(args) => verify::act(&args),
        Command::Check(args) => check::act(&args),
        Command::Explain(args) => explain::act(&args),
        Command::Shrink(args) => shrink::act(&args),
        Command::Schema(args) => schema::act(&args),
    }
}
