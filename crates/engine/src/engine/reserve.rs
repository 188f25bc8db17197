//! What a call may take of its key's limits: reserved before anybody is asked.

use polygate_core::{Failure, Kind};
use polygate_wire::{Ingress, ingress};

use crate::call::{Call, Endpoint};
use crate::count;
use crate::observe::Reserved;
use crate::quota::{Amounts, Reservation, Spent};

/// Output tokens of a call that names no limit of its own.
const OUTPUT: u64 = 4096;

/// Reserves the most that the call is thought to take. The moment is in seconds since 1970.
pub(super) fn reserve(call: &Call, now: u64) -> Result<Option<Reserved>, Failure> {
    let caller = &call.inbound.caller;
    let mut quotas = caller.quotas().peekable();
    if quotas.peek().is_none() {
        return Ok(None);
    }
    let (input, output) = tokens(call);
    let amounts = Amounts {
        requests: 1,
        tokens: input.saturating_add(output),
        money: 0,
    };
    let mut reservation = Reservation::default();
    for quota in quotas {
        quota
            .reserve(amounts, now, &mut reservation)
            .map_err(|spent| refusal(&caller.name(), &spent, &amounts))?;
    }
    Ok(Some(Reserved { reservation, input }))
}

/// The input as far as lengths tell, and the most of output. What only its provider can read is counted by its length.
fn tokens(call: &Call) -> (u64, u64) {
    let endpoint = &call.inbound.endpoint;
    let Some(object) = call.object.as_ref().filter(|_| !endpoint.counts()) else {
        return (0, 0);
    };
    let length = object.bytes().len() as u64 / 4;
    match endpoint {
        Endpoint::Chat | Endpoint::Responses | Endpoint::Messages | Endpoint::Generate { .. } => {
            let read = |ingress: &'static dyn Ingress| ingress.decode_request(object).ok();
            match ingress(endpoint.format()).and_then(read) {
                Some(request) => {
                    let output = request.max_tokens.as_ref().map(|most| most.value);
                    (count::rough(&request), output.unwrap_or(OUTPUT))
                }
                None => (length, OUTPUT),
            }
        }
        Endpoint::Completions => (length, OUTPUT),
        _ => (length, 0),
    }
}

fn refusal(key: &str, spent: &Spent, wanted: &Amounts) -> Failure {
    let (measure, period) = (spent.allowance.measure, spent.allowance.period);
    let (name, most, left) = (measure.name(), spent.allowance.most, spent.left);
    let message = format!(
        "key '{key}' may take {most} {name} a {}, of which {left} are left, and this call may take {}",
        period.name(),
        wanted.of(measure)
    );
    Failure::new(Kind::RateLimited, message).retry_after(spent.wait)
}
