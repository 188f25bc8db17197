//! What the configuration makes of one call by more than the call's own words: by who calls, and by headers that reach no provider.

use std::fmt::Write;

use crate::call::Call;
use crate::cloak::Cloak;
use crate::route::Route;
use crate::snapshot::Snapshot;

/// The rules that are for it, by their places in a configuration whose own number is part of the key too: two calls that are led elsewhere,
/// or whose bodies are changed otherwise, ask something else, though they say the same.
pub(super) fn decided(snapshot: &Snapshot, call: &Call, route: &Route) -> String {
    // What was chosen of routes, draws included.
    let mut text = route.choices.key(&call.model);
    let payload = snapshot.config.payload.iter();
    let payload = payload.map(|rule| rule.when.holds_for(call.named(), call));
    let guards = snapshot.config.guards.list.iter();
    let guards = guards.map(|guard| guard.when.may_hold(call));
    let cloaks = snapshot.upstreams.iter();
    let cloaks = cloaks.map(|one| Cloak::over(one.cloak.as_ref(), call).is_some());
    for (at, is) in payload.chain(guards).chain(cloaks).enumerate() {
        if is {
            // Writing to a string does not fail.
            let _ = write!(text, "{at},");
        }
    }
    text
}
