//! The ledger in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Held, MemoryStore, Sum};
use crate::error::Result;
use crate::usage::{
    CallFilter, CallList, CallPage, CallRow, CallSort, Filter, Group, GroupBy, Order, Totals,
    UsageStore,
};

/// More calls than this are not kept, since one takes about 2.3 KB; sums are.
const MOST: usize = 20_000;

impl Sum {
    fn of(call: &CallRow) -> Self {
        Self {
            hour: call.hour(),
            key: call.key.clone(),
            team: call.team.clone(),
            model: call.label.clone(),
            provider: call.provider.clone(),
        }
    }

    fn is_of(&self, filter: &Filter) -> bool {
        let (from, until) = filter.hours();
        let is = |wanted: &Option<String>, has: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == has)
        };
        (from..until).contains(&self.hour)
            && is(&filter.key, &self.key)
            && is(&filter.team, &self.team)
            && is(&filter.model, &self.model)
            && is(&filter.provider, &self.provider)
    }

    fn group(&self, by: Option<GroupBy>) -> String {
        match by {
            None => String::new(),
            Some(GroupBy::Key) => self.key.clone(),
            Some(GroupBy::Team) => self.team.clone(),
            Some(GroupBy::Model) => self.model.clone(),
            Some(GroupBy::Provider) => self.provider.clone(),
            Some(GroupBy::Hour) => self.hour.to_string(),
        }
    }
}

impl CallFilter {
    fn matches(&self, call: &CallRow) -> bool {
        let of = Filter {
            from: None,
            until: None,
            ..self.of.clone()
        };
        let is_named =
            |name: &String| [&call.model, &call.label, &call.upstream_model].contains(&name);
        let is = |wanted: &Option<String>, has: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == has
        };
        self.named.as_ref().is_none_or(is_named)
            && self.of.from.is_none_or(|from| call.started >= from)
            && self.of.until.is_none_or(|until| call.started < until)
            && Sum::of(call).is_of(&of)
            && self
                .request_id
                .as_ref()
                .is_none_or(|id| *id == call.request_id)
            && is(&self.end_user, call.end_user.as_deref())
            && is(&self.session, call.session.as_deref())
            && self
                .tag
                .as_ref()
                .is_none_or(|tag| call.tag_list().contains(tag))
            && self
                .cached
                .is_none_or(|cached| cached == call.cached.is_some())
            && self.status.is_none_or(|status| status == call.status)
            && self.stream.is_none_or(|stream| stream == call.stream)
            && self
                .shadow
                .is_none_or(|shadow| shadow == call.shadow_of.is_some())
            && (!self.errors || call.error.is_some())
    }
}

impl CallSort {
    fn of(self, call: &CallRow) -> i64 {
        match self {
            CallSort::Started => call.started,
            CallSort::Status => i64::from(call.status),
            CallSort::Duration => call.duration,
            CallSort::Cost => call.cost,
        }
    }
}

impl Held {
    fn newest(&self) -> impl Iterator<Item = &CallRow> {
        self.calls.values().rev()
    }
}

#[async_trait]
impl UsageStore for MemoryStore {
    async fn record(&self, calls: &[CallRow]) -> Result<u64> {
        let mut held = self.held();
        let mut new = 0;
        for call in calls {
            if held.calls.contains_key(&call.id) {
                continue;
            }
            new += 1;
            held.sums
                .entry(Sum::of(call))
                .or_default()
                .add(&call.totals());
            held.calls.insert(call.id.clone(), call.clone());
        }
        while held.calls.len() > MOST {
            held.calls.pop_first();
        }
        Ok(new)
    }

    async fn totals(&self, of: &Filter, by: Option<GroupBy>) -> Result<Vec<Group>> {
        let held = self.held();
        let mut groups: BTreeMap<String, Totals> = BTreeMap::new();
        if by.is_none() {
            groups.insert(String::new(), Totals::default());
        }
        for (sum, totals) in held.sums.iter().filter(|(sum, _)| sum.is_of(of)) {
            groups.entry(sum.group(by)).or_default().add(totals);
        }
        let groups = groups.into_iter();
        Ok(groups
            .map(|(name, totals)| Group { name, totals })
            .collect())
    }

    async fn calls(&self, of: &CallFilter, page: CallPage) -> Result<CallList> {
        let held = self.held();
        let mut matching: Vec<&CallRow> = held.newest().filter(|call| of.matches(call)).collect();
        let Order { by, ascending } = page.order;
        matching.sort_by(|one, other| {
            let (least, most) = if ascending {
                (one, other)
            } else {
                (other, one)
            };
            let newest = (other.started, &other.id).cmp(&(one.started, &one.id));
            by.of(least).cmp(&by.of(most)).then(newest)
        });
        let count = i64::try_from(matching.len()).unwrap_or(i64::MAX);
        let shown = matching
            .into_iter()
            .skip(page.offset as usize)
            .take(page.limit as usize);
        let without_attempts = |call: &CallRow| CallRow {
            attempts: Vec::new(),
            ..call.clone()
        };
        Ok(CallList {
            calls: shown.map(without_attempts).collect(),
            total: count,
            is_exact: true,
        })
    }

    async fn call(&self, id: &str, team: Option<&str>) -> Result<Option<CallRow>> {
        let held = self.held();
        let is_seen = |call: &&CallRow| team.is_none_or(|team| call.team == team);
        let by_request = || {
            let mut newest = held.newest().filter(is_seen);
            newest.find(|call| call.request_id == id)
        };
        let by_id = held.calls.get(id).filter(is_seen);
        Ok(by_id.or_else(by_request).cloned())
    }

    async fn forget_calls(&self, ids: &[String]) -> Result<u64> {
        let mut held = self.held();
        let known = ids.iter().filter(|id| held.calls.remove(*id).is_some());
        Ok(known.count() as u64)
    }

    async fn forget_calls_before(&self, before: i64, limit: u32) -> Result<u64> {
        let mut held = self.held();
        let old = held.calls.values().filter(|call| call.started < before);
        let old: Vec<_> = old
            .take(limit as usize)
            .map(|call| call.id.clone())
            .collect();
        for id in &old {
            held.calls.remove(id);
        }
        Ok(old.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::usage::call;

    #[tokio::test]
    async fn the_newest_calls_are_kept_and_the_sums_of_all() {
        let store = MemoryStore::default();
        let calls: Vec<CallRow> = (0..MOST + 5)
            .map(|n| call(i64::try_from(n).expect("a number"), "k"))
            .collect();
        for some in calls.chunks(500) {
            store.record(some).await.expect("recorded");
        }
        {
            let held = store.held();
            assert_eq!(held.calls.len(), MOST);
            let (newest, oldest) = (calls.last(), calls.first());
            assert!(newest.is_some_and(|call| held.calls.contains_key(&call.id)));
            assert!(oldest.is_some_and(|call| !held.calls.contains_key(&call.id)));
        }
        let totals = store.totals(&Filter::default(), None).await.expect("sums");
        let calls: i64 = totals.iter().map(|group| group.totals.calls).sum();
        assert_eq!(calls, 20_005);
    }
}
