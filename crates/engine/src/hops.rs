//! How many gateways a call has been through: each counts one more, and a call that has been through too many goes in a circle.

use http::{HeaderMap, HeaderName, HeaderValue};
use polygate_core::{Failure, Kind};

/// Who counts: every gateway of this kind.
static HOPS: HeaderName = HeaderName::from_static("x-polygate-hops");

/// So many gateways in a row nobody has on purpose.
const MOST: u64 = 8;

/// Refuses a call that has been through too many gateways.
pub fn check(headers: &HeaderMap) -> Result<(), Failure> {
    let hops = hops(headers);
    if hops < MOST {
        return Ok(());
    }
    let message = format!(
        "the call has been through {hops} gateways: the api_base of a provider seems to lead back to one of them"
    );
    Err(Failure::new(Kind::Loop, message))
}

/// What the upstream is told: one more than the client said.
pub fn count(client: &HeaderMap, upstream: &mut HeaderMap) {
    let hops = HeaderValue::from(hops(client).saturating_add(1));
    upstream.insert(&HOPS, hops);
}

/// What is no number is none.
fn hops(headers: &HeaderMap) -> u64 {
    let lines = headers.get_all(&HOPS).iter();
    let texts = lines.filter_map(|value| value.to_str().ok());
    let counts = texts.filter_map(|text| text.trim().parse().ok());
    counts.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(hops: &str) -> HeaderMap {
        HeaderMap::from_iter([(HOPS.clone(), hops.parse().expect("a value"))])
    }

    #[test]
    fn each_counts_one_more_until_it_is_too_many() {
        let mut headers = HeaderMap::new();
        for hop in 1..=MOST {
            assert!(check(&headers).is_ok(), "{hop}");
            count(&headers.clone(), &mut headers);
            assert_eq!(headers.get_all(&HOPS).iter().count(), 1);
        }
        let failure = check(&headers).expect_err("a circle");
        assert_eq!((failure.kind, failure.status), (Kind::Loop, 508));
        assert!(check(&said("-3")).is_ok());
        assert!(check(&said("many")).is_ok());
        assert!(check(&said("18446744073709551615")).is_err());
    }
}
