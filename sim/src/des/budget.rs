//! The retry budget: tokens that first tries and time earn, and that retries cost.
//!
//! You are here: `sim::des::budget`. The callers of both engines have one for each guarded edge; a policy says what is earned.
//! Always true: never more tokens than the policy's cap.

use crate::program::{BudgetP, PolicyP, TOKEN};

/// What one caller has left, in fixed point ([`TOKEN`] is one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(super) tokens: u64,
    /// Until when time has been paid for.
    pub(super) filled_at: u64,
}

impl Budget {
    /// At time 0; of no use where the policy has none.
    pub(crate) fn new(policy: &PolicyP) -> Self {
        Budget { tokens: policy.budget.map_or(0, |budget| budget.initial), filled_at: 0 }
    }

    /// A first try leaves.
    pub(crate) fn first_try(&mut self, policy: &BudgetP) {
        self.tokens = (self.tokens + policy.per_first).min(policy.cap);
    }

    /// Takes a token for a retry, if there is one.
    pub(crate) fn pays(&mut self, policy: &BudgetP, now: u64) -> bool {
        let earned = (u128::from(now - self.filled_at) * u128::from(policy.per_ns_q32)) >> 32;
        self.filled_at = now;
        self.tokens = self.tokens.saturating_add(u64::try_from(earned).unwrap_or(u64::MAX)).min(policy.cap);
        let pays = self.tokens >= TOKEN;
        if pays {
            self.tokens -= TOKEN;
        }
        pays
    }
}
