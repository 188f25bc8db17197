//! What a request wishes of the cache: `cache-control`, as clients of HTTP know it, and `x-polygate-cache`.

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;
use polygate_core::clock::duration;
use polygate_core::{Failure, Kind};

/// The header by which a request asks to be cached, or not to be.
pub const HEADER: &str = "x-polygate-cache";

/// What a request wishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// It asks to be cached.
    pub asks: bool,
    /// Its answer is good so long, at most.
    pub ttl: Option<Duration>,
    /// It is neither looked up nor kept.
    pub is_off: bool,
    /// It is not looked up; its answer is kept.
    pub is_fresh_wanted: bool,
    /// It takes no older answer.
    max_age: Option<Duration>,
}

impl Wish {
    /// Of these headers. Directives that mean nothing here are passed over, as everywhere.
    pub fn read(headers: &HeaderMap) -> Result<Self, Failure> {
        let mut wish = Self::own(headers)?;
        let said = headers.get_all(CACHE_CONTROL).iter();
        let said = said.filter_map(|value| value.to_str().ok());
        for directive in said.flat_map(|text| text.split(',')) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let value = value.trim().trim_matches('"');
            match &*name.trim().to_ascii_lowercase() {
                "no-store" => wish.is_off = true,
                "no-cache" => wish.is_fresh_wanted = true,
                "max-age" => wish.max_age = value.parse().ok().map(Duration::from_secs),
                _ => {}
            }
        }
        Ok(wish)
    }

    fn own(headers: &HeaderMap) -> Result<Self, Failure> {
        let Some(value) = headers.get(HEADER) else {
            return Ok(Self::default());
        };
        let text = value.to_str().unwrap_or_default().trim();
        let ttl = duration(text).filter(|ttl| !ttl.is_zero());
        match text {
            "on" | "true" | "1" => Ok(Self {
                asks: true,
                ..Self::default()
            }),
            "off" | "false" | "0" => Ok(Self {
                is_off: true,
                ..Self::default()
            }),
            _ if ttl.is_some() => Ok(Self {
                asks: true,
                ttl,
                ..Self::default()
            }),
            _ => {
                let message = format!(
                    "'{HEADER}' must be on, off, or how long the answer is good: a time such as 30s or 5m"
                );
                Err(Failure::new(Kind::InvalidRequest, message))
            }
        }
    }

    /// Whether it takes an answer of this age.
    pub fn takes(&self, age: Duration) -> bool {
        self.max_age.is_none_or(|most| age <= most)
    }

    /// Whether it takes whatever is good.
    pub fn takes_any(&self) -> bool {
        !self.is_fresh_wanted && self.max_age.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(own: Option<&str>, control: &[&str]) -> Result<Wish, Failure> {
        let mut headers = HeaderMap::new();
        if let Some(own) = own {
            headers.insert(HEADER, own.parse().expect("a value"));
        }
        for text in control {
            headers.append(CACHE_CONTROL, text.parse().expect("a value"));
        }
        Wish::read(&headers)
    }

    #[test]
    fn wishes_are_those_of_http_and_one_of_ours() {
        let none = Wish::default();
        let fresh = Wish {
            is_fresh_wanted: true,
            ..none
        };
        let off = Wish {
            is_off: true,
            ..none
        };
        let asks = Wish { asks: true, ..none };
        let young = |seconds| Wish {
            max_age: Some(Duration::from_secs(seconds)),
            ..none
        };
        for (own, control, expected) in [
            (None, &[][..], none),
            (None, &["no-transform, public"], none),
            (None, &["No-Cache"], fresh),
            (None, &["max-age=0"], young(0)),
            (None, &["private", "max-age=\"60\""], young(60)),
            (None, &["max-age=soon"], none),
            (None, &["no-store"], off),
            (Some("off"), &[], off),
            (Some("on"), &[], asks),
            (
                Some("90s"),
                &[],
                Wish {
                    ttl: Some(Duration::from_secs(90)),
                    ..asks
                },
            ),
            (
                Some("1"),
                &["no-store"],
                Wish {
                    is_off: true,
                    ..asks
                },
            ),
        ] {
            let said = wish(own, control).expect("it can be meant");
            assert_eq!(said, expected, "{own:?} {control:?}");
        }
        for wrong in ["", "maybe", "0s", "-1"] {
            let failure = wish(Some(wrong), &[]).expect_err("no such wish");
            assert!(failure.message.contains(HEADER), "{}", failure.message);
        }
    }

    #[test]
    fn ages_are_taken_up_to_the_one_that_is_named() {
        let wish = wish(None, &["max-age=60"]).expect("a wish");
        assert!(wish.takes(Duration::from_secs(60)) && !wish.takes(Duration::from_secs(61)));
        assert!(!wish.takes_any());
    }
}
