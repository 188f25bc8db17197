//! W3C trace context: whose trace a call belongs to, and which spans of it are the call's own.

use std::num::{NonZeroU64, NonZeroU128};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::chance;

/// What says so, from the caller and to upstreams.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// No trace state is longer; a longer one is not passed on.
const LONGEST_STATE: usize = 512;

/// A call's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub id: NonZeroU128,
    /// The caller's span, where the caller said so.
    pub parent: Option<NonZeroU64>,
    /// The call's own span.
    pub span: NonZeroU64,
    /// It is told to collectors.
    pub is_sampled: bool,
    /// The caller says that the trace's id is a random number.
    pub is_random: bool,
}

/// Of the flags of a trace.
const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;

impl Trace {
    /// The caller's trace, which the caller has decided to sample or not; or a new one, of which so many of a whole are sampled.
    pub fn of(headers: &HeaderMap, sample: f64) -> Self {
        let span = some_number();
        if let Some((id, parent, flags)) = one(headers).and_then(read) {
            return Self {
                id,
                parent: Some(parent),
                span,
                is_sampled: flags & SAMPLED != 0,
                is_random: flags & RANDOM != 0,
            };
        }
        let id = NonZeroU128::from(some_number()) | u128::from(chance::number()) << 64;
        Self {
            id,
            parent: None,
            span,
            is_sampled: is_part(id, sample),
            is_random: false,
        }
    }

    /// What is said of the trace beside who began it.
    pub fn flags(&self) -> u8 {
        u8::from(self.is_sampled) * SAMPLED + u8::from(self.is_random) * RANDOM
    }

    /// The span of an attempt, by its number.
    pub fn attempt(&self, number: usize) -> NonZeroU64 {
        let number = (number as u64).wrapping_add(1);
        let mixed = chance::mixed(self.span.get().wrapping_add(number));
        NonZeroU64::new(mixed).unwrap_or(NonZeroU64::MIN)
    }

    /// Tells the upstream of an attempt, by its number; with the caller's own state of the trace.
    pub(crate) fn tell(&self, number: usize, client: &HeaderMap, upstream: &mut HeaderMap) {
        let span = self.attempt(number);
        let flags = self.flags();
        let text = format!("00-{:032x}-{span:016x}-{flags:02x}", self.id);
        let Ok(value) = HeaderValue::try_from(text) else {
            return;
        };
        upstream.insert(TRACEPARENT, value);
        if let Some(state) = self.state(client) {
            upstream.insert(TRACESTATE, state);
        }
    }

    /// The caller's state of its trace: one list, in however many headers it came.
    pub fn state(&self, client: &HeaderMap) -> Option<HeaderValue> {
        self.parent?;
        let lists: Vec<&[u8]> = client
            .get_all(&TRACESTATE)
            .iter()
            .map(|list| list.as_bytes().trim_ascii())
            .filter(|list| !list.is_empty())
            .collect();
        let state = lists.join(&b","[..]);
        let is_bearable = (1..=LONGEST_STATE).contains(&state.len());
        let state = HeaderValue::from_bytes(&state)
            .ok()
            .filter(|_| is_bearable)?;
        state.to_str().is_ok().then_some(state)
    }
}

/// The header that says whose trace it is: several say nothing.
fn one(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut all = headers.get_all(&TRACEPARENT).iter();
    all.next().filter(|_| all.next().is_none())
}

/// Whether a trace is of this part of all: the same for everyone who asks.
pub fn is_part(id: NonZeroU128, part: f64) -> bool {
    let low = (id.get() as u64) >> 11;
    (low as f64) < part * (1_u64 << 53) as f64
}

fn some_number() -> NonZeroU64 {
    NonZeroU64::new(chance::number()).unwrap_or(NonZeroU64::MIN)
}

/// `version-trace-parent-flags`; what is no such thing says nothing.
fn read(value: &HeaderValue) -> Option<(NonZeroU128, NonZeroU64, u8)> {
    let text = value.to_str().ok()?.trim();
    let mut parts = text.split('-');
    let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_known = match version {
        "00" => parts.next().is_none(),
        // Later versions may say more behind it.
        other => is_hex(other, 2) && other != "ff",
    };
    if !is_known || !is_hex(id, 32) || !is_hex(parent, 16) || !is_hex(flags, 2) {
        return None;
    }
    let id = NonZeroU128::new(u128::from_str_radix(id, 16).ok()?)?;
    let parent = NonZeroU64::new(u64::from_str_radix(parent, 16).ok()?)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((id, parent, flags))
}

fn is_hex(text: &str, length: usize) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == length && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| {
                let value = HeaderValue::from_str(value).expect("a value");
                (HeaderName::from_static(name), value)
            })
            .collect()
    }

    const SAID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_callers_trace_goes_on() {
        let client = headers(&[("traceparent", SAID), ("tracestate", "a=1")]);
        let trace = Trace::of(&client, 0.0);
        assert!(trace.is_sampled, "the caller decides");
        assert_eq!(trace.parent.map(NonZeroU64::get), Some(0xb7ad6b7169203331));
        let mut upstream = HeaderMap::new();
        trace.tell(0, &client, &mut upstream);
        let told = upstream["traceparent"].to_str().expect("text");
        let (id, parent, flags) = read(&upstream["traceparent"]).expect("a trace");
        assert!(told.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        assert_eq!((id, parent, flags), (trace.id, trace.attempt(0), SAMPLED));
        assert_eq!(upstream["tracestate"], "a=1");
        assert_ne!(trace.attempt(0), trace.attempt(1));
        assert_ne!(trace.attempt(0), trace.span);
    }

    #[test]
    fn what_is_said_of_it_in_several_headers_is_one_list() {
        let random = SAID.replace("-01", "-03");
        let mut client = headers(&[("traceparent", &random), ("tracestate", "a=1")]);
        client.append("tracestate", HeaderValue::from_static("b=2, c=3"));
        let mut upstream = HeaderMap::new();
        Trace::of(&client, 0.0).tell(0, &client, &mut upstream);
        assert_eq!(upstream["tracestate"], "a=1,b=2, c=3");
        let told = upstream["traceparent"].to_str().expect("text");
        assert!(told.ends_with("-03"), "{told}");
        client.append("traceparent", HeaderValue::from_static(SAID));
        assert_eq!(Trace::of(&client, 0.0).parent, None, "two are none");
    }

    #[test]
    fn what_is_no_trace_begins_a_new_one() {
        for no in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            let client = headers(&[("traceparent", no), ("tracestate", "a=1")]);
            let trace = Trace::of(&client, 1.0);
            assert_eq!((trace.parent, trace.is_sampled), (None, true), "{no}");
            let mut upstream = HeaderMap::new();
            trace.tell(0, &client, &mut upstream);
            assert!(!upstream.contains_key("tracestate"));
        }
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more";
        let trace = Trace::of(&headers(&[("traceparent", later)]), 1.0);
        assert!(trace.parent.is_some() && !trace.is_sampled);
    }

    #[test]
    fn a_part_of_the_traces_is_sampled() {
        let _seeded = chance::seed(7);
        let sampled = |part| {
            let all = (0..4000).map(|_| Trace::of(&HeaderMap::new(), part));
            all.filter(|trace| trace.is_sampled).count()
        };
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 4000));
        let some = sampled(0.25);
        assert!((850..1150).contains(&some), "{some}");
    }
}
