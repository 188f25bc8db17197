//! The catalogue: every line of the file, names, facts, and lines that are wrong.

use super::*;
use crate::row_named;

fn read(row: &str, model: &str, line: &str) -> Option<Listing> {
    let text = format!("[{row}]\n{model} {line}\n");
    Catalogue::of(Source::Catalogue, text).exactly(row, model)
}

fn listed(row: &str, model: &str) -> Option<Listing> {
    Catalogue::built_in().listing(row_named(row).expect("a row"), model)
}

#[test]
fn a_vendors_other_addresses_have_its_models_and_prices() {
    let beside = crate::table()
        .iter()
        .filter(|row| row.hosts.iter().any(|host| host.contains('/')));
    for row in beside {
        let vendor = row.vendor.as_deref().and_then(row_named);
        let vendor = vendor.unwrap_or_else(|| panic!("{} has a vendor", row.name));
        assert_eq!(row.models, vendor.models, "{}", row.name);
        let models = Catalogue::built_in();
        let (_, model) = models.rows.get_key_value(&vendor.name).expect("a list");
        let model = model.keys().next().expect("a model");
        let listed = |row| models.listing(row, model).and_then(|one| one.context);
        assert_eq!(listed(row), listed(vendor), "{} {model}", row.name);
    }
}

#[test]
fn every_line_is_of_a_row_and_can_be_read_and_no_price_is_absurd() {
    let catalogue = Catalogue::built_in();
    assert!(catalogue.rows.len() > 30);
    assert!(catalogue.date().starts_with("20"), "{}", catalogue.date());
    Catalogue::fetched(catalogue.text().to_owned()).expect("a list");
    let most = 2_000_000_000;
    for (row, models) in &catalogue.rows {
        assert!(row_named(row).is_some(), "{row}");
        for (model, line) in models {
            let listing = catalogue.read(row, model, line);
            let listing = listing.unwrap_or_else(|| panic!("{row} {model} {line:?}"));
            let prices = listing
                .price
                .iter()
                .chain(listing.tiers.iter().map(|(_, price)| price));
            for price in prices {
                let most_of = price
                    .estimate(1_000_000, 0)
                    .max(price.estimate(0, 1_000_000));
                assert!(most_of < most, "{row} {model}");
                assert_ne!(
                    (price.rates.input, price.rates.output),
                    (0, 0),
                    "{row} {model}"
                );
            }
        }
    }
}

#[test]
fn names_are_found_as_providers_take_them() {
    let price = |row, model| listed(row, model)?.price;
    let gpt = price("openai", "gpt-4o").expect("a price");
    assert_eq!((gpt.rates.input, gpt.rates.output), (2_500_000, 10_000_000));
    assert_eq!(gpt.blend(), 17_500_000);
    let nova = price("bedrock", "amazon.nova-lite-v1:0");
    assert!(nova.is_some());
    assert_eq!(price("bedrock", "eu.amazon.nova-lite-v1:0"), nova);
    assert_eq!(
        price("gemini", "models/gemini-2.5-flash"),
        price("gemini", "gemini-2.5-flash")
    );
    assert_eq!(price("openai", "gpt-of-mine"), None);
    assert_eq!(price("openai", "#"), None);
}

#[test]
fn what_a_model_is_and_can_do_is_listed() {
    let gpt = listed("openai", "gpt-4o").expect("listed");
    assert_eq!((gpt.context, gpt.output_cap), (Some(128_000), Some(16_384)));
    for (can, one) in [
        (true, Capability::Tools),
        (true, Capability::Vision),
        (true, Capability::StructuredOutput),
        (true, Capability::Pdf),
        (false, Capability::Reasoning),
        (false, Capability::AudioInput),
        (false, Capability::AudioOutput),
    ] {
        assert_eq!(gpt.capabilities.has(one), can, "{one:?}");
    }
    // Known, but not what it costs: no price, not zero.
    let known = read("openai", "m", "context=9").expect("a listing");
    assert_eq!(
        (known.context, known.line(ServiceTier::Batch)),
        (Some(9), None)
    );
}

#[test]
fn lines_are_read_exactly_or_not_at_all() {
    let line = "context=1000 can=tools,pdf; in=0.075 out=12 write_1h=0.000001; above=200 in=1 out=2; priority in=1 out=20";
    let listing = read("openai", "m", line).expect("a listing");
    let price = listing.price.expect("a price");
    let (usual, long) = (price.rates, price.long.expect("long"));
    assert_eq!(
        (usual.input, usual.output, usual.cache_write_1h),
        (75_000, 12_000_000, Some(1))
    );
    assert_eq!(
        (long.above, long.rates.input, long.rates.cache_write_1h),
        (200, 1_000_000, Some(1))
    );
    let priority = listing.line(ServiceTier::Priority).expect("a line");
    assert_eq!(priority.price.rates.output, 20_000_000);
    // What is listed for long prompts of usual calls is nobody's discount.
    let line = "; in=1 out=1; above=5 in=2 out=2; flex in=0.5 out=1; priority in=3 out=3";
    let tiers = read("openai", "m", line).expect("a listing").tiers;
    let longs: Vec<_> = tiers
        .iter()
        .map(|(tier, price)| (*tier, price.long.map(|long| long.rates.input)))
        .collect();
    let flex = (ServiceTier::Flex, Some(2_000_000));
    assert_eq!(longs, [flex, (ServiceTier::Priority, None)]);
    for wrong in [
        "context=many",
        "can=fly",
        "size=1",
        "; in=1.0000001 out=1",
        "; in= out=1",
        "; in=-1 out=1",
        "; in=99999999999999 out=1",
        "; soon in=1 out=1",
        "; per=1",
        "; in=1 out=1; in=2 out=2",
        "; above=5 in=1 out=1",
    ] {
        assert_eq!(read("openai", "m", wrong), None, "{wrong}");
    }
}
