//! From hot spots to scenarios: asks every rule for ideas, and takes turns among them until there are enough.
//!
//! You are here: `scenarios::generate`. Ideas come from `rules`, evidence from `analyse`.
//! Always true: the same model and options give the same scenarios; ids are unique and follow from the faults; the first N
//! scenarios of a larger set are the set of N (up to `MOST_OF_A_RULE`).
//! Not here: what an idea is worth trying for (`rules`).

use std::collections::{BTreeMap, BTreeSet};

use models::system::Model;
use models::units::{Nanos, SimTime};

use crate::analyse::Analysis;
use crate::fault::{Fault, FaultKind, Target};
use crate::rules::{self, Context, Idea};
use crate::scenario::Scenario;

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerateOptions {
    /// How many scenarios; fewer come back only if the model offers no more that differ.
    pub count: usize,
    /// Length of the runs: every fault clears within it.
    pub horizon: Nanos,
    /// When faults start.
    pub fault_start: Nanos,
    /// How long they last; some scenarios last a quarter or twice as long.
    pub fault_duration: Nanos,
    /// What is left out of the statistics at the start: no fault starts earlier.
    pub warm_up: Nanos,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            count: 200,
            horizon: Nanos::from_secs(120),
            fault_start: Nanos::from_secs(30),
            fault_duration: Nanos::from_secs(20),
            warm_up: Nanos::from_secs(10),
        }
    }
}

/// Proposes scenarios, the most worrying first, each with its evidence.
///
/// The rules take turns, the one with the most worrying idea first. At its turn a rule gives its most worrying idea that is left;
/// a target that was chosen n times before counts 1 / (1 + n/4), and a rule with nothing comparable left lets its turn pass. When ideas run out, their shorter and longer forms, and those at
/// other loads, follow. Faults that would not clear within the horizon are moved to a quarter of it and last a sixth of it,
/// whatever the warm-up.
pub fn generate(model: &Model, analysis: &Analysis, options: &GenerateOptions) -> Vec<Scenario> {
    let context = Context::new(model, analysis);
    let ideas: Vec<Vec<Named>> =
        name(rules::RULES.iter().map(|(_, rule)| rule(&context)).collect(), options.count.max(MOST_OF_A_RULE));
    let window = Window::of(options);
    let mut pools: Vec<Vec<Choice>> = ideas.iter().map(|ideas| choices(ideas, &window)).collect();
    pools.retain(|pool| !pool.is_empty());
    pools.sort_by(|a, b| b[0].priority.total_cmp(&a[0].priority));

    let mut chosen = Vec::new();
    let mut uses: BTreeMap<&Target, u32> = BTreeMap::new();
    while chosen.len() < options.count && !pools.is_empty() {
        let most = pools.iter().map(|pool| best_of(pool, &uses).1).fold(0.0, f64::max);
        for pool in &mut pools {
            let (best, worth) = best_of(pool, &uses);
            if chosen.len() == options.count || worth < WORTH_A_TURN * most {
                continue;
            }
            let choice = pool.remove(best);
            for target in choice.named.targets() {
                *uses.entry(target).or_default() += 1;
            }
            chosen.push(choice.scenario(&window));
        }
        pools.retain(|pool| !pool.is_empty());
    }
    chosen
}

/// In a model of thousands of edges, this many ideas of each rule are looked at.
const MOST_OF_A_RULE: usize = 1_000;

/// A rule whose best idea is worth less than this share of the best of all lets its turn pass.
const WORTH_A_TURN: f64 = 0.4;

/// The choice of a pool that is worth most by now, and its worth; of equals, the first in the pool's order.
fn best_of(pool: &[Choice], uses: &BTreeMap<&Target, u32>) -> (usize, f64) {
    let mut best = (0, -1.0);
    for (i, choice) in pool.iter().enumerate() {
        // Pools are sorted, and nothing is worth more than its priority.
        if choice.priority <= best.1 {
            break;
        }
        let used = choice.named.targets().map(|target| uses.get(target).copied().unwrap_or(0)).max().unwrap_or(0);
        let worth = choice.priority / (1.0 + f64::from(used) / 4.0);
        if worth > best.1 {
            best = (i, worth);
        }
    }
    best
}

/// An idea with the id that its faults give it.
struct Named {
    id: String,
    idea: Idea,
}

impl Named {
    fn targets(&self) -> impl Iterator<Item = &Target> {
        self.idea.faults.iter().map(|(target, _)| target)
    }
}

/// Gives ids to the ideas of each rule, leaves out what an earlier rule has proposed already, and keeps the `most`
/// worrying of each, in order.
fn name(rules: Vec<Vec<Idea>>, most: usize) -> Vec<Vec<Named>> {
    let mut taken: BTreeMap<String, Vec<(Target, FaultKind)>> = BTreeMap::new();
    rules
        .into_iter()
        .map(|ideas| {
            let mut named: Vec<Named> = Vec::new();
            for idea in ideas {
                let base = rules::id_of(&idea.faults);
                // Different names may look alike in an id (`a.b/c`, `a.b_c`): the later one gets a number.
                let id = (1..).map(|n| if n == 1 { base.clone() } else { format!("{base}-{n}") });
                let Some(id) = id.into_iter().find(|id| taken.get(id).is_none_or(|faults| *faults == idea.faults)) else {
                    continue;
                };
                if taken.insert(id.clone(), idea.faults.clone()).is_none() {
                    named.push(Named { id, idea });
                }
            }
            named.sort_by(|a, b| b.idea.priority.total_cmp(&a.idea.priority).then_with(|| a.id.cmp(&b.id)));
            named.truncate(most);
            named
        })
        .collect()
}

/// When faults strike.
struct Window {
    start: SimTime,
    duration: Nanos,
    end: SimTime,
}

impl Window {
    fn of(options: &GenerateOptions) -> Window {
        let horizon = options.horizon.as_nanos();
        let start = options.fault_start.max(options.warm_up).as_nanos();
        let duration = options.fault_duration.as_nanos();
        let fits = duration > 0 && start.saturating_add(duration) < horizon;
        let (start, duration) = if fits { (start, duration) } else { (horizon / 4, (horizon / 6).max(1)) };
        Window { start: SimTime::from_nanos(start), duration: Nanos::from_nanos(duration), end: SimTime::from_nanos(horizon) }
    }
}

/// One form of an idea: how long, and at which load.
struct Form {
    /// Length as a multiple of the usual one: numerator and denominator.
    length: (u64, u64),
    load: f64,
    /// What it does to the idea's priority.
    weight: f64,
}

/// The forms that every idea can take. The plain one comes first.
const FORMS: [Form; 8] = [
    Form { length: (1, 1), load: 1.0, weight: 1.0 },
    Form { length: (1, 4), load: 1.0, weight: 0.4 },
    Form { length: (1, 1), load: 1.25, weight: 0.35 },
    Form { length: (2, 1), load: 1.0, weight: 0.3 },
    Form { length: (1, 1), load: 0.5, weight: 0.2 },
    Form { length: (1, 4), load: 1.25, weight: 0.15 },
    Form { length: (2, 1), load: 1.25, weight: 0.1 },
    Form { length: (2, 1), load: 0.5, weight: 0.05 },
];

/// An idea in one of its forms.
struct Choice<'a> {
    named: &'a Named,
    form: &'static Form,
    priority: f64,
}

fn choices<'a>(ideas: &'a [Named], window: &Window) -> Vec<Choice<'a>> {
    let mut seen = BTreeSet::new();
    let mut choices: Vec<Choice> = ideas
        .iter()
        .flat_map(|named| FORMS.iter().map(move |form| Choice { named, form, priority: named.idea.priority * form.weight }))
        .filter(|choice| window.start + choice.duration(window) < window.end && !choice.duration(window).is_zero())
        .filter(|choice| seen.insert(choice.id(window)))
        .collect();
    choices.sort_by(|a, b| b.priority.total_cmp(&a.priority).then_with(|| a.named.id.cmp(&b.named.id)));
    choices
}

impl Choice<'_> {
    fn duration(&self, window: &Window) -> Nanos {
        let (numerator, denominator) = self.form.length;
        Nanos::from_nanos(window.duration.as_nanos().saturating_mul(numerator) / denominator)
    }

    fn id(&self, window: &Window) -> String {
        let mut id = self.named.id.clone();
        if self.form.length != (1, 1) {
            id += &format!("-for-{}", self.duration(window));
        }
        if self.form.load != 1.0 {
            id += &format!("-load-{}", self.form.load);
        }
        id
    }

    fn scenario(&self, window: &Window) -> Scenario {
        let duration = self.duration(window);
        let mut why = self.named.idea.why.clone();
        if self.form.length != (1, 1) {
            why += &format!("; here for {duration} instead of {}", window.duration);
        }
        if self.form.load != 1.0 {
            why += &format!("; here at {} times the load", self.form.load);
        }
        Scenario {
            id: self.id(window),
            why,
            load: (self.form.load != 1.0).then_some(self.form.load),
            faults: self
                .named
                .idea
                .faults
                .iter()
                .map(|(target, kind)| Fault::new(kind.clone(), target.clone(), window.start, duration))
                .collect(),
        }
    }
}
