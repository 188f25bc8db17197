//! Limited amounts of requests, tokens and money: reserved before a call, settled by what it took. Exact however many ask at once,
//! without a lock.

mod book;
mod tally;
mod window;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use book::{Book, Calls};
pub use tally::{Keeping, MOST, Tally, TallyId, Wanting};
pub use window::{Period, Window};

/// Whose limits they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Of which kind.
    pub kind: SubjectKind,
    /// Its name among those.
    pub name: Arc<str>,
}

/// Of what there are limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubjectKind {
    /// A caller's key.
    Key,
    /// What several keys have in common.
    Team,
    /// A model that is asked for.
    Model,
    /// A provider.
    Provider,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Calls.
    Requests,
    /// Input and output tokens together.
    Tokens,
    /// Millionths of a dollar.
    Money,
}

/// So much of something in each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Allowance {
    /// What is counted.
    pub measure: Measure,
    /// In which windows.
    pub period: Period,
    /// How much in each; 0 blocks.
    pub most: u64,
}

/// What a call takes: its estimate before, its true figures after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Calls.
    pub requests: u64,
    /// Input and output tokens together.
    pub tokens: u64,
    /// Millionths of a dollar.
    pub money: u64,
}

/// The allowances of one subject: a key, a team, a model, a provider.
#[derive(Debug)]
pub struct Quota {
    subject: Subject,
    meters: Vec<Meter>,
}

/// One allowance with what is taken of it.
#[derive(Debug)]
struct Meter {
    allowance: Allowance,
    tally: Arc<Tally>,
}

/// What a call has reserved. Dropped unsettled it gives everything back: a call that never was.
#[derive(Debug, Default)]
pub struct Reservation {
    held: Vec<Held>,
}

/// What is reserved of one amount.
#[derive(Debug)]
struct Held {
    tally: Arc<Tally>,
    /// The window it was taken in: in another it says nothing.
    window: u64,
    amount: u64,
}

/// There is not enough left of an allowance.
#[derive(Clone, Debug)]
pub struct Spent {
    /// Whose.
    pub subject: Subject,
    /// Of which.
    pub allowance: Allowance,
    /// How much is left.
    pub left: u64,
    /// How much was asked for.
    pub wanted: u64,
    /// When there is more; `None`: never.
    pub wait: Option<Duration>,
    /// More of it may be leased within a moment.
    pub more: Option<Arc<Tally>>,
}

/// How an allowance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub allowance: Allowance,
    /// How much is left in the window of now.
    pub left: u64,
    /// When the next window begins; `None`: never.
    pub resets: Option<Duration>,
}

impl SubjectKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            SubjectKind::Key => "key",
            SubjectKind::Team => "team",
            SubjectKind::Model => "model",
            SubjectKind::Provider => "provider",
        }
    }
}

impl Subject {
    /// This one.
    pub fn new(kind: SubjectKind, name: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            name: name.into(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}'", self.kind.name(), self.name)
    }
}

impl Measure {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Requests => "requests",
            Measure::Tokens => "tokens",
            Measure::Money => "usd",
        }
    }
}

impl Measure {
    /// An amount as people read it.
    pub fn show(self, amount: u64) -> String {
        match self {
            Measure::Requests | Measure::Tokens => format!("{amount} {}", self.name()),
            Measure::Money => format!("{}.{:06} USD", amount / 1_000_000, amount % 1_000_000),
        }
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Allowance {
            measure,
            period,
            most,
        } = self.allowance;
        let show = |amount| measure.show(amount);
        write!(
            f,
            "{} may take {} {}, of which {} are left, and this call may take {}",
            self.subject,
            show(most),
            period.phrase(),
            show(self.left),
            show(self.wanted)
        )
    }
}

impl Amounts {
    /// So much of this.
    pub fn of(&self, measure: Measure) -> u64 {
        match measure {
            Measure::Requests => self.requests,
            Measure::Tokens => self.tokens,
            Measure::Money => self.money,
        }
    }
}

impl Quota {
    /// These allowances of a subject; `None` where there are none. What is taken of them is in the book.
    pub fn new(subject: &Subject, allowances: &[Allowance], book: &Book) -> Option<Arc<Self>> {
        let meter = |allowance: &Allowance| {
            let id = TallyId {
                subject: subject.clone(),
                measure: allowance.measure,
                period: allowance.period,
            };
            Meter {
                allowance: *allowance,
                tally: book.tally(id, allowance.most),
            }
        };
        let quota = Self {
            subject: subject.clone(),
            meters: allowances.iter().map(meter).collect(),
        };
        (!allowances.is_empty()).then(|| Arc::new(quota))
    }

    /// Whose it is.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether it limits this.
    pub fn limits(&self, measure: Measure) -> bool {
        let mut meters = self.meters.iter();
        meters.any(|meter| meter.allowance.measure == measure)
    }

    /// Reserves what a call may take, of all allowances or of none. The moment is in seconds since 1970.
    pub fn reserve(
        &self,
        amounts: Amounts,
        now: u64,
        reservation: &mut Reservation,
    ) -> Result<(), Spent> {
        let before = reservation.held.len();
        for meter @ Meter { allowance, tally } in &self.meters {
            let window = allowance.period.window(now);
            let amount = amounts.of(allowance.measure);
            if let Err(left) = tally.take(window.number, amount) {
                reservation.give_back_from(before);
                return Err(self.spent(meter, left, amount, now));
            }
            reservation.held.push(Held {
                tally: tally.clone(),
                window: window.number,
                amount,
            });
        }
        Ok(())
    }

    /// Why a call that comes now could not reserve so much, as far as is known here. Nothing is taken.
    pub fn lacks(&self, amounts: Amounts, now: u64) -> Option<Spent> {
        self.meters.iter().find_map(|meter| {
            let Meter { allowance, tally } = meter;
            let amount = amounts.of(allowance.measure);
            let left = tally.left(allowance.period.window(now).number);
            // What blocks, blocks what takes nothing as well.
            let is_enough = amount <= left && allowance.most > 0;
            (!is_enough).then(|| self.spent(meter, left, amount, now))
        })
    }

    fn spent(&self, Meter { allowance, tally }: &Meter, left: u64, wanted: u64, now: u64) -> Spent {
        let is_ever_enough = wanted <= allowance.most && allowance.most > 0;
        let may_come = is_ever_enough && tally.may_come(wanted, now);
        let window = allowance.period.window(now);
        Spent {
            subject: self.subject.clone(),
            allowance: *allowance,
            left,
            wanted,
            wait: window.left(now).filter(|_| is_ever_enough),
            more: may_come.then(|| tally.clone()),
        }
    }

    /// How all allowances stand.
    pub fn standings(&self, now: u64) -> impl Iterator<Item = Standing> {
        self.meters.iter().map(move |Meter { allowance, tally }| {
            let window = allowance.period.window(now);
            tally.look(now);
            Standing {
                allowance: *allowance,
                left: tally.left(window.number),
                resets: window.left(now),
            }
        })
    }
}

impl Reservation {
    /// The call took so much.
    pub fn settle(mut self, used: Amounts) {
        for Held {
            tally,
            window,
            amount,
        } in self.held.drain(..)
        {
            tally.settle(window, amount, used.of(tally.id().measure));
        }
    }

    fn give_back_from(&mut self, first: usize) {
        for Held {
            tally,
            window,
            amount,
        } in self.held.drain(first..)
        {
            tally.settle(window, amount, 0);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.give_back_from(0);
    }
}

#[cfg(test)]
mod tests;
