//! What calls cost: published prices by hand, rules between tiers, and what holds for any price and any call.

use proptest::prelude::*;

use super::*;
use crate::row_named;

fn line(row: &str, model: &str, tier: ServiceTier) -> PriceLine {
    let row = row_named(row).expect("a row");
    let listing = crate::Catalogue::built_in()
        .listing(row, model)
        .expect("a listing");
    listing.line(tier).expect("a price")
}

fn price(row: &str, model: &str) -> Price {
    line(row, model, ServiceTier::Standard).price
}

/// Dollars per million tokens are millionths of a dollar per token: the sums on the right are the price pages' figures as they are.
#[test]
fn calls_cost_what_price_pages_say() {
    // OpenAI: $2.50, cached $1.25, output $10.
    let usage = Usage {
        input: 2_006,
        cache_read: 1_920,
        output: 300,
        reasoning: 200,
        ..Usage::default()
    };
    let of = 215 + 2_400 + 3_000;
    assert_eq!(price("openai", "gpt-4o").cost(&usage), of);

    // Anthropic: $3, read $0.30, written $3.75, for an hour $6, output $15.
    let usage = Usage {
        input: 10_000,
        cache_read: 6_000,
        cache_write: 3_000,
        cache_write_1h: 1_000,
        output: 500,
        ..Usage::default()
    };
    let of = 3_000 + 1_800 + 7_500 + 6_000 + 7_500;
    assert_eq!(price("anthropic", "claude-sonnet-4-5").cost(&usage), of);

    // Gemini Pro: $1.25 and $10 until 200,000 tokens, $2.50 and $15 beyond; cached a tenth of input.
    let pro = price("gemini", "gemini-2.5-pro");
    let usage = |input, cache_read| Usage {
        input,
        cache_read,
        output: 1_000,
        ..Usage::default()
    };
    assert_eq!(pro.cost(&usage(200_000, 0)), 250_000 + 10_000);
    assert_eq!(
        pro.cost(&usage(200_001, 1)),
        500_000 + 15_000,
        "and a quarter, which is rounded away"
    );
    assert_eq!(
        pro.cost(&usage(200_001, 0)),
        500_003 + 15_000,
        "two and a half, rounded up"
    );

    // Gemini Flash: $0.30, sound $1, output $2.50.
    let usage = Usage {
        input: 3_000,
        input_audio: 1_000,
        output: 40,
        ..Usage::default()
    };
    assert_eq!(
        price("gemini", "gemini-2.5-flash").cost(&usage),
        600 + 1_000 + 100
    );

    // Bedrock's Nova Lite: $0.06, cached $0.015, output $0.24.
    let usage = Usage {
        input: 2_000,
        cache_read: 1_000,
        output: 500,
        ..Usage::default()
    };
    assert_eq!(
        price("bedrock", "us.amazon.nova-lite-v1:0").cost(&usage),
        60 + 15 + 120
    );

    // DeepSeek: $0.28, hits $0.028, output $0.42.
    assert_eq!(
        price("deepseek", "deepseek-chat").cost(&usage),
        280 + 28 + 210
    );
}

#[test]
fn other_service_has_its_price_where_it_is_listed() {
    let usage = Usage {
        input: 1_000,
        output: 100,
        ..Usage::default()
    };
    let batch = line("openai", "gpt-4o", ServiceTier::Batch);
    assert_eq!(
        (batch.tier, batch.price.cost(&usage)),
        (ServiceTier::Batch, 1_250 + 500)
    );
    let flex = line("openai", "gpt-4o", ServiceTier::Flex);
    assert_eq!(
        (flex.tier, flex.price.cost(&usage)),
        (ServiceTier::Standard, 2_500 + 1_000)
    );
    let cached = Usage {
        cache_read: 1_000,
        ..usage
    };
    // Written for an hour twice the input; none is listed for batches, so it is that of usual calls.
    let batch = line("anthropic", "claude-sonnet-4-5", ServiceTier::Batch).price;
    assert_eq!(batch.cost(&cached), 150 + 750);
    assert_eq!(batch.rates.cache_write_1h, Some(6_000_000));
    // A long prompt of flexible calls: no discount is listed.
    let flex = line("gemini", "gemini-2.5-pro", ServiceTier::Flex).price;
    assert_eq!(flex.rates.input, 625_000);
    assert_eq!(
        flex.long.map(|long| (long.above, long.rates.input)),
        Some((200_000, 2_500_000))
    );
}

#[test]
fn a_tier_without_a_price_has_that_of_the_whole() {
    let price = Price::of_dollars(3.0, 15.0).expect("a price");
    let usage = Usage {
        served: None,
        input: 100,
        output: 100,
        cache_read: 10,
        cache_write: 20,
        cache_write_1h: 5,
        reasoning: 30,
        input_audio: 40,
        output_audio: 50,
    };
    assert_eq!(price.cost(&usage), 300 + 1_500);
    let written = Price {
        rates: Rates {
            cache_write: Some(4_000_000),
            ..price.rates
        },
        long: None,
    };
    assert_eq!(
        written.cost(&usage),
        300 + 1_500 + 20,
        "an hour's as other writing"
    );
}

#[test]
fn what_is_more_than_the_whole_is_charged_and_cached_sound_is_not_charged_twice() {
    let price = Price {
        rates: Rates {
            input: 2_000_000,
            output: 3_000_000,
            cache_read: Some(1_000_000),
            input_audio: Some(9_000_000),
            ..Rates::default()
        },
        long: None,
    };
    let apart = Usage {
        cache_read: 7,
        reasoning: 5,
        ..Usage::default()
    };
    assert_eq!(price.cost(&apart), 7 + 15);
    let heard = Usage {
        input: 10,
        cache_read: 6,
        input_audio: 10,
        ..Usage::default()
    };
    assert_eq!(price.cost(&heard), 6 + 4 * 9);
}

#[test]
fn a_row_is_recomputed_from_what_it_keeps() {
    let usage = Usage {
        input: 300_000,
        output: 77,
        cache_read: 12_345,
        ..Usage::default()
    };
    let used = line("gemini", "models/gemini-2.5-pro", ServiceTier::Standard);
    let (kept, cost) = (
        serde_json::to_string(&used).expect("JSON"),
        used.price.cost(&usage),
    );
    let read: PriceLine = serde_json::from_str(&kept).expect("a line");
    assert_eq!(read, used);
    // 287,655 x 2.5 + 12,345 x 0.25 + 77 x 15 = 723,378.75
    assert_eq!((read.price.cost(&usage), cost), (723_379, 723_379));
    assert_eq!(
        serde_json::to_value(&used).expect("JSON"),
        serde_json::json!({
            "source": "catalogue", "date": crate::Catalogue::built_in().date(), "provider": "gemini", "model": "gemini-2.5-pro",
            "tier": "standard", "input": 1_250_000, "output": 10_000_000, "cache_read": 125_000,
            "long": {"above": 200_000, "input": 2_500_000, "output": 15_000_000, "cache_read": 250_000}
        })
    );
}

#[test]
fn a_call_that_was_cut_off_is_charged_by_what_is_known() {
    let ours = aborted(Usage::default(), 120, 30);
    assert_eq!((ours.input, ours.output), (120, 30));
    // As Anthropic begins: the prompt is counted, the answer is not yet.
    let begun = Usage {
        input: 100,
        cache_read: 60,
        output: 1,
        ..Usage::default()
    };
    assert_eq!(
        aborted(begun, 120, 30),
        Usage {
            output: 30,
            ..begun
        }
    );
    assert_eq!(aborted(begun, 120, 0), begun);
}

#[test]
fn nothing_overflows() {
    let all = Usage {
        served: None,
        input: u64::MAX,
        output: u64::MAX,
        cache_read: u64::MAX,
        cache_write: u64::MAX,
        cache_write_1h: u64::MAX,
        reasoning: u64::MAX,
        input_audio: u64::MAX,
        output_audio: u64::MAX,
    };
    let rates = Rates {
        input: u64::MAX,
        output: u64::MAX,
        ..Rates::default()
    };
    let price = Price { rates, long: None };
    assert_eq!(price.cost(&all), i64::MAX);
    assert_eq!(price.estimate(u64::MAX, u64::MAX), i64::MAX);
}

#[test]
fn dollars_are_checked() {
    let price = Price::of_dollars(3.0, 15.0).expect("a price");
    assert_eq!(
        (price.rates.input, price.rates.output),
        (3_000_000, 15_000_000)
    );
    assert_eq!(price.blend(), 24_000_000);
    for wrong in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
        assert_eq!(Price::of_dollars(wrong, 1.0), None, "{wrong}");
    }
}

fn rates() -> impl Strategy<Value = Rates> {
    let rate = || 0..200_000_000_u64;
    let part = move || proptest::option::of(rate());
    (
        rate(),
        rate(),
        part(),
        part(),
        part(),
        part(),
        part(),
        part(),
    )
        .prop_map(
            |(
                input,
                output,
                cache_read,
                cache_write,
                cache_write_1h,
                input_audio,
                output_audio,
                reasoning,
            )| Rates {
                input,
                output,
                cache_read,
                cache_write,
                cache_write_1h,
                input_audio,
                output_audio,
                reasoning,
            },
        )
}

/// Parts that are no more than their wholes.
fn usage() -> impl Strategy<Value = Usage> {
    let count = || 0..300_000_u64;
    (
        count(),
        count(),
        count(),
        count(),
        count(),
        count(),
        count(),
        count(),
    )
        .prop_map(
            |(fresh, cache_read, cache_write, hour, sound, reasoning, spoken, said)| Usage {
                served: None,
                input: fresh + cache_read + cache_write + sound,
                cache_read,
                cache_write,
                cache_write_1h: hour.min(cache_write),
                input_audio: sound,
                output: reasoning + spoken + said,
                reasoning,
                output_audio: spoken,
            },
        )
}

proptest! {
    #[test]
    fn two_calls_cost_what_each_does(rates in rates(), one in usage(), other in usage()) {
        let price = Price { rates, long: None };
        let apart = price.cost(&one) + price.cost(&other);
        prop_assert!((price.cost(&one.plus(other)) - apart).abs() <= 1);
    }

    #[test]
    fn more_tokens_never_cost_less(rates in rates(), above in 0..900_000_u64, one in usage(), more in usage()) {
        let dearer = |rate: u64| rate.saturating_mul(2);
        let part = |rate: Option<u64>| rate.map(dearer);
        let long = Rates {
            input: dearer(rates.input),
            output: dearer(rates.output),
            cache_read: part(rates.cache_read),
            cache_write: part(rates.cache_write),
            cache_write_1h: part(rates.cache_write_1h),
            input_audio: part(rates.input_audio),
            output_audio: part(rates.output_audio),
            reasoning: part(rates.reasoning),
        };
        let price = Price { rates, long: Some(Long { above, rates: long }) };
        prop_assert!(price.cost(&one.plus(more)) >= price.cost(&one));
        prop_assert!(price.cost(&one) >= 0);
    }

    #[test]
    fn no_call_costs_more_than_was_reserved(
        rates in rates(), long in rates(), above in 0..900_000_u64, usage in usage(), spare in 0..10_000_u64
    ) {
        let price = Price { rates, long: Some(Long { above, rates: long }) };
        prop_assert!(price.cost(&usage) <= price.estimate(usage.input + spare, usage.output + spare));
    }

    #[test]
    fn what_is_kept_is_read_as_it_was(rates in rates(), long in proptest::option::of(rates()), above: u64) {
        let price = Price { rates, long: long.map(|rates| Long { above, rates }) };
        let kept = serde_json::to_string(&price).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Price>(&kept).expect("a price"), price);
    }
}
