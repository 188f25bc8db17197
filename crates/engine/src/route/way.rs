//! Which groups of a route are open: fallbacks for a failure of a kind are asked after such a failure, and then only they.

use polygate_core::Why;

use super::Step;

/// Why a fallback is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A limit or a spent quota.
    Quota,
    /// Any failure that another might not have.
    Any,
    /// The conversation is too long.
    ContextLength,
    /// The provider refuses to talk about it.
    ContentPolicy,
}

/// From a model to one of its fallbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The model that has the fallback.
    pub node: usize,
    /// What it is for.
    pub cause: Cause,
}

/// What a call may still ask: at first all that no fallback for a failure of the request leads to.
#[derive(Clone, Debug, Default)]
pub struct Open {
    within: Option<Edge>,
    /// Models before it are through.
    from: usize,
    /// Models of which our own limits kept a candidate from being asked.
    spent: Vec<usize>,
    /// The tokens that there has to be room for, where anybody asks.
    needs: u64,
}

impl Cause {
    /// The fallbacks for this.
    pub fn of(why: Why) -> Self {
        match why {
            Why::ContextLength => Cause::ContextLength,
            Why::ContentPolicy => Cause::ContentPolicy,
        }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Quota => "quota",
            Cause::Any => "any",
            Cause::ContextLength => "context_length",
            Cause::ContentPolicy => "content_policy",
        }
    }

    /// The request itself failed, so that only models that were named for it can help.
    fn is_final(self) -> bool {
        matches!(self, Cause::ContextLength | Cause::ContentPolicy)
    }
}

impl Open {
    /// As at first, of those that have room for so many tokens while there are any.
    pub fn needing(tokens: u64) -> Self {
        Self {
            needs: tokens,
            ..Self::default()
        }
    }

    /// The tokens that there has to be room for.
    pub(super) fn needs(&self) -> u64 {
        self.needs
    }

    /// Behind this fallback only, and only models from this one on.
    pub(super) fn within(edge: Edge, from: usize) -> Self {
        Self {
            within: Some(edge),
            from,
            ..Self::default()
        }
    }

    /// As at first, but only models from this one on.
    pub(super) fn from(node: usize) -> Self {
        Self {
            from: node,
            ..Self::default()
        }
    }

    /// The same, knowing of the limits and the tokens that were known before.
    #[must_use]
    pub fn knowing(mut self, before: &mut Self) -> Self {
        self.spent = std::mem::take(&mut before.spent);
        self.needs = before.needs;
        self
    }

    /// Notes that a limit keeps a candidate of this model from being asked.
    pub(super) fn note_spent(&mut self, node: usize) {
        if !self.is_spent(node) {
            self.spent.push(node);
        }
    }

    /// Whether one of this model's candidates was kept from being asked by a limit.
    pub(super) fn is_spent(&self, node: usize) -> bool {
        self.spent.contains(&node)
    }

    /// Whether a group is open, limits aside.
    pub(super) fn leads_to(&self, step: &Step) -> bool {
        let mut last = step.path.iter().rev();
        let last = last.find(|edge| edge.cause.is_final()).copied();
        step.node >= self.from && last == self.within
    }
}
