//! Who may call: `master_keys`, `teams` and `allow_anonymous`.

use std::collections::BTreeMap;

use polygate_core::{Secret, moment};
use polygate_engine::admit::Hash;
use polygate_engine::config::{Access, Bounds, Key, Network, Previous, Role, Team};
use polygate_engine::pattern::Pattern;
use polygate_store::Sealer;

use super::limits::{limits, rate_limit};
use crate::config::names::{Named, Reference};
use crate::config::pieces::{max_concurrent, patterns};
use crate::config::reader::{Item, Section};

/// The keys, and whether it takes any.
pub fn read(top: &Section<'_>) -> Access {
    let allow_anonymous = top.boolean("allow_anonymous").unwrap_or(false);
    let section = top.item("master_keys");
    let keys = section.map(|section| {
        let items = section.list().into_iter().enumerate();
        items.filter_map(|(at, item)| key(at, &item)).collect()
    });
    if allow_anonymous && keys.is_some() {
        top.warn(
            "allow_anonymous",
            "has no effect: master_keys says who may call",
        );
    }
    let teams = top.section("teams").map(|section| {
        let entries = section.entries().into_iter();
        entries
            .filter_map(|(name, item)| team(name, &item))
            .collect()
    });
    Access {
        keys,
        teams: teams.unwrap_or_default(),
        allow_anonymous,
    }
}

/// One team.
pub fn team(name: &str, item: &Item<'_>) -> Option<Team> {
    let section = item.section()?;
    section.item("description");
    let enabled = section.boolean("enabled").unwrap_or(true);
    let (bounds, metadata, tags) = (bounds(&section), metadata(&section), tags(&section));
    section.finish();
    let named = Named::new(name, &item.spot);
    item.names().borrow_mut().teams.push(named);
    Some(Team {
        name: name.to_owned(),
        enabled,
        bounds,
        metadata,
        tags,
    })
}

fn key(at: usize, item: &Item<'_>) -> Option<Key> {
    let section = item.section()?;
    let name = section
        .text("name")
        .unwrap_or_else(|| format!("key-{}", at + 1));
    // What is exported of a database has hashes.
    section.item("key_preview");
    let known = section.item("key_hash");
    let hash = known.as_ref().and_then(hash);
    let key = match &known {
        None => section.required("key").and_then(|item| item.secret()),
        Some(known) if section.item("key").is_some() => {
            known.error("is there beside the key: keep one");
            None
        }
        Some(_) => hash.map(|_| Secret::new("")),
    };
    let described = described(section, name);
    let key = Key {
        key: key?,
        hash,
        ..described
    };
    let named = Named::new(&key.name, &item.spot);
    item.names().borrow_mut().keys.push(named);
    Some(key)
}

/// A key of which only the keyed hash is known, with that.
pub fn hashed(name: &str, item: &Item<'_>) -> Option<(Hash, Key)> {
    let section = item.section()?;
    // For people, and for those who look at it.
    section.item("name");
    section.item("key_preview");
    let hash = section.required("key_hash").and_then(|item| hash(&item));
    Some((hash?, described(section, name.to_owned())))
}

fn hash(item: &Item<'_>) -> Option<Hash> {
    item.parsed("a keyed hash of 64 hexadecimal digits", Sealer::hash_of)
}

/// What else there is to say of a key.
fn described(section: Section<'_>, name: String) -> Key {
    section.item("description");
    let team = section.item("team").and_then(|item| {
        let team = item.text()?;
        let team = team.trim();
        let reference = Reference {
            name: team.to_owned(),
            by: name.clone(),
            spot: item.spot.clone(),
        };
        (!team.is_empty()).then(|| item.names().borrow_mut().teams_named.push(reference));
        (!team.is_empty()).then(|| team.to_owned())
    });
    let role = section.word("role", &Role::NAMES);
    if role == Some(Role::TeamAdmin) && team.is_none() {
        section.error("role", "needs a team: set 'team', or another role");
    }
    let key = Key {
        previous: previous(&section),
        enabled: section.boolean("enabled").unwrap_or(true),
        expires: moment(&section, "expires_at"),
        allowed_ips: networks(&section),
        team,
        strict: section.boolean("strict").unwrap_or(false),
        explain: section.boolean("explain").unwrap_or(false),
        bounds: bounds(&section),
        role,
        metadata: metadata(&section),
        tags: tags(&section),
        ..Key::new(name, Secret::new(""))
    };
    section.finish();
    key
}

/// The key before this one. Without an end it would be good for ever, so it needs one.
fn previous(section: &Section<'_>) -> Option<Previous> {
    let said = section.item("previous_key_hash");
    let until = moment(section, "previous_key_until");
    let said = said?;
    if section.item("previous_key_until").is_none() {
        said.error("needs previous_key_until: when the key before this one ends");
    }
    Some(Previous {
        hash: hash(&said)?,
        until: until?,
    })
}

fn moment(section: &Section<'_>, key: &'static str) -> Option<u64> {
    let expected = "a moment such as 2027-01-31T18:30:00Z";
    section.item(key)?.parsed(expected, moment::parse)
}

fn networks(section: &Section<'_>) -> Vec<Network> {
    let items = section.items("allowed_ips");
    let expected = "an address, or a network such as 10.0.0.0/8";
    let network = |item: &Item<'_>| item.parsed(expected, |text| text.parse().ok());
    items.iter().filter_map(network).collect()
}

fn metadata(section: &Section<'_>) -> BTreeMap<String, String> {
    let Some(section) = section.section("metadata") else {
        return BTreeMap::new();
    };
    let entries = section.entries().into_iter();
    entries
        .filter_map(|(name, item)| Some((name.to_owned(), item.text()?)))
        .collect()
}

fn tags(section: &Section<'_>) -> Vec<String> {
    let items = section.items("tags");
    items.iter().filter_map(Item::text).collect()
}

/// What a key or a team may do.
fn bounds(section: &Section<'_>) -> Bounds {
    Bounds {
        allowed_models: patterns(section, "allowed_models", Pattern::mapping),
        rate_limit: section
            .item("rate_limit")
            .and_then(|item| rate_limit(&item)),
        max_concurrent: max_concurrent(section),
        limits: limits(section),
    }
}
