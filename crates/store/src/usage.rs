//! The ledger's rows: one for every call and one for each of its attempts, and what they add up to.

use async_trait::async_trait;
use polygate_core::Usage;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Microseconds of an hour, by which sums are kept.
pub const HOUR: i64 = 3_600_000_000;

/// How well it is known what something cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The provider said how many tokens it was.
    Reported,
    /// It ended well and the provider said nothing: the tokens are estimated.
    Estimated,
    /// It was cut off, by the client, the provider or our own end: the tokens are those known till then, or estimated.
    Aborted,
    /// It failed, and what failed so costs nothing.
    Failed,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRow {
    /// Ours, unlike the request's id, which callers may choose. In order of time.
    pub id: String,
    /// `x-request-id`.
    pub request_id: String,
    /// When it began; microseconds since 1970.
    pub started: i64,
    /// How long it took; microseconds.
    pub duration: i64,
    /// How long until the first good event; microseconds.
    pub first_event: Option<i64>,
    /// The route, as metrics name it.
    pub endpoint: String,
    /// The key's name.
    pub key: String,
    /// The key's team.
    pub team: String,
    /// The model as asked.
    pub model: String,
    /// The model as sums name it: a configured name or pattern, a name of the catalogue, or `other`.
    pub label: String,
    /// The provider that answered last.
    pub provider: String,
    /// Its credential, by name.
    pub credential: String,
    /// The model there.
    pub upstream_model: String,
    /// The program that called.
    pub client: String,
    /// It was a stream.
    pub stream: bool,
    /// The status that the client got.
    pub status: i32,
    /// How it ended.
    pub outcome: String,
    /// The error's code, where there was one.
    pub error: Option<String>,
    /// How well the cost is known.
    pub state: State,
    /// Tokens of the whole call, failed attempts included.
    pub usage: Usage,
    /// Millionths of a dollar, failed attempts included.
    pub cost: i64,
    /// The line of the price list, JSON; `None`: nobody knows the price.
    pub price: Option<String>,
    /// What translation lost, JSON.
    pub losses: Option<String>,
    /// What the key, its team and the caller tag it with, JSON.
    pub tags: Option<String>,
    /// Whom it was made for, as the caller says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_user: Option<String>,
    /// The session that it was part of, as the caller says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What else the caller says of it, JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// Who was not asked though it would have been their turn, and why; JSON.
    #[serde(default)]
    pub passed_over: Option<String>,
    /// How the cache answered it, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<String>,
    /// Tokens of the answer that the cache had: nobody paid them again, and no sum has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<Usage>,
    /// What it was held to, what its first choice was between and what became of its request, JSON; `None`: nobody noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The call that it is the shadow of, by its own id: no client waited for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_of: Option<String>,
    /// Each try, in order.
    pub attempts: Vec<AttemptRow>,
}

/// An attempt of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// When it began; microseconds after the call.
    #[serde(default)]
    pub started: i64,
    /// The provider.
    pub provider: String,
    /// Its credential, by name.
    pub credential: String,
    /// The model there.
    pub model: String,
    /// `ok`, or the failure's code.
    pub outcome: String,
    /// The upstream's status, where it gave one.
    pub status: i32,
    /// How long until it was decided; microseconds.
    pub duration: i64,
    /// How well the cost is known.
    pub state: State,
    /// Its tokens.
    pub usage: Usage,
    /// Millionths of a dollar.
    pub cost: i64,
}

/// Which calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// From this moment; microseconds since 1970. Sums begin with its hour.
    pub from: Option<i64>,
    /// Before this moment; microseconds since 1970. Sums end with its hour.
    pub until: Option<i64>,
    /// Of this key.
    pub key: Option<String>,
    /// Of this team.
    pub team: Option<String>,
    /// Of this model, by its label.
    pub model: Option<String>,
    /// Answered by this provider.
    pub provider: Option<String>,
}

/// Further wishes where single calls are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallFilter {
    /// Which calls.
    pub of: Filter,
    /// Of this model, whoever calls it so: the caller, sums, or the provider.
    pub named: Option<String>,
    /// With this request id.
    pub request_id: Option<String>,
    /// With this status.
    pub status: Option<i32>,
    /// Streams, or not.
    pub stream: Option<bool>,
    /// Made for this end user.
    pub end_user: Option<String>,
    /// Part of this session.
    pub session: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// Answered by the cache, or not.
    pub cached: Option<bool>,
    /// Shadows of others, or not.
    pub shadow: Option<bool>,
    /// Only those with an error.
    pub errors: bool,
}

/// What a page has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallList {
    /// The calls, without their attempts.
    pub calls: Vec<CallRow>,
    /// How many there are in all.
    pub total: i64,
    /// Those of `total` were counted to the last; else there are more.
    pub is_exact: bool,
}

/// A page of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallPage {
    /// So many are left out.
    pub offset: u32,
    /// So many at most.
    pub limit: u32,
    /// How they are sorted.
    pub order: Order,
}

/// How calls are sorted; of equals the newest first. As a rule: the newest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// By what.
    pub by: CallSort,
    /// The least first.
    pub ascending: bool,
}

/// What calls are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallSort {
    /// When they began.
    #[default]
    Started,
    /// The status that the client got.
    Status,
    /// How long they took.
    Duration,
    /// What they cost.
    Cost,
}

/// What sums are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// The key.
    Key,
    /// The team.
    Team,
    /// The model, by its label.
    Model,
    /// The provider.
    Provider,
    /// The hour that it began in; microseconds since 1970.
    Hour,
}

/// What calls add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Calls.
    pub calls: i64,
    /// Attempts.
    pub attempts: i64,
    /// Calls with an error.
    pub errors: i64,
    /// All input tokens.
    pub input_tokens: i64,
    /// All output tokens.
    pub output_tokens: i64,
    /// Input tokens read from caches.
    pub cache_read_tokens: i64,
    /// Input tokens written to caches.
    pub cache_write_tokens: i64,
    /// Output tokens spent on reasoning.
    pub reasoning_tokens: i64,
    /// Millionths of a dollar.
    pub cost_micro_usd: i64,
}

/// The sum of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The key's, team's, model's or provider's name, or the hour.
    pub name: String,
    /// Its sum.
    pub totals: Totals,
}

/// Where the ledger is shipped to.
#[async_trait]
pub trait UsageStore: Send + Sync {
    /// Keeps these, and counts them in the sums. Those that are there already are left as they are; how many were new.
    async fn record(&self, calls: &[CallRow]) -> Result<u64>;
    /// What calls add up to; one group of all where they are not grouped. By whole hours.
    async fn totals(&self, of: &Filter, by: Option<GroupBy>) -> Result<Vec<Group>>;
    /// Single calls, without their attempts, and how many there are in all.
    async fn calls(&self, of: &CallFilter, page: CallPage) -> Result<CallList>;
    /// One call with its attempts, by its own id or by the request's (the newest).
    async fn call(&self, id: &str, team: Option<&str>) -> Result<Option<CallRow>>;
    /// Forgets calls by id; how many. Sums stay.
    async fn forget_calls(&self, ids: &[String]) -> Result<u64>;
    /// Forgets calls that began before a moment, so many at most; how many. Sums stay.
    async fn forget_calls_before(&self, before: i64, limit: u32) -> Result<u64>;
}

impl State {
    /// All of them.
    pub const ALL: [State; 4] = [
        State::Reported,
        State::Estimated,
        State::Aborted,
        State::Failed,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Reported => "reported",
            State::Estimated => "estimated",
            State::Aborted => "aborted",
            State::Failed => "failed",
        }
    }

    /// The state of this name.
    pub fn named(word: &str) -> Option<Self> {
        State::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl CallRow {
    /// The hour it began in.
    pub fn hour(&self) -> i64 {
        self.started.div_euclid(HOUR) * HOUR
    }

    /// Its tags, one by one.
    pub fn tag_list(&self) -> Vec<String> {
        let tags = self.tags.as_deref();
        let read = tags.and_then(|text| serde_json::from_str(text).ok());
        read.unwrap_or_default()
    }

    /// What it adds to sums.
    pub fn totals(&self) -> Totals {
        let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Totals {
            calls: 1,
            attempts: i64::try_from(self.attempts.len()).unwrap_or(i64::MAX),
            errors: i64::from(self.error.is_some()),
            input_tokens: tokens(self.usage.input),
            output_tokens: tokens(self.usage.output),
            cache_read_tokens: tokens(self.usage.cache_read),
            cache_write_tokens: tokens(self.usage.cache_write),
            reasoning_tokens: tokens(self.usage.reasoning),
            cost_micro_usd: self.cost,
        }
    }
}

impl Totals {
    /// Adds another sum.
    pub fn add(&mut self, other: &Totals) {
        let pairs = [
            (&mut self.calls, other.calls),
            (&mut self.attempts, other.attempts),
            (&mut self.errors, other.errors),
            (&mut self.input_tokens, other.input_tokens),
            (&mut self.output_tokens, other.output_tokens),
            (&mut self.cache_read_tokens, other.cache_read_tokens),
            (&mut self.cache_write_tokens, other.cache_write_tokens),
            (&mut self.reasoning_tokens, other.reasoning_tokens),
            (&mut self.cost_micro_usd, other.cost_micro_usd),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
    }
}

impl Filter {
    /// The hours that sums are taken of: from the first to before the last.
    pub fn hours(&self) -> (i64, i64) {
        let from = self
            .from
            .map_or(i64::MIN, |from| from.div_euclid(HOUR) * HOUR);
        let until = self.until.map_or(i64::MAX, |until| {
            until
                .saturating_sub(1)
                .div_euclid(HOUR)
                .saturating_add(1)
                .saturating_mul(HOUR)
        });
        (from, until)
    }
}
