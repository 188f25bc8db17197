//! The database's keys as they are known here: which are served, and to whom a key belongs that two documents have.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use polygate_engine::admit::{Hash, SharedKeys};
use polygate_engine::config::Key;
use polygate_server::admin::configuration::LeftOut;
use polygate_store::config::{Document, Kind};

use crate::config::documents::key;

/// Every key of the database. Requests do not look here, but at the keys in force.
#[derive(Debug, Default)]
pub struct KeyBook {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// By name.
    entries: BTreeMap<String, Entry>,
    /// Who has a key, by number: the first of them is its owner.
    owners: HashMap<Hash, Vec<(i64, String)>>,
    /// What the file has.
    of_file: HashSet<String>,
    /// Those that are no good, and why.
    unread: BTreeMap<String, String>,
    /// Those whose key another owns.
    second: BTreeSet<String>,
}

#[derive(Debug)]
struct Entry {
    document: Document,
    /// What it is found by, its present key first; none where it is no good.
    hashes: Vec<Hash>,
    team: Option<String>,
}

impl KeyBook {
    /// Goes on by these changes, and puts what they come to in force.
    pub fn put(
        &self,
        changes: impl Iterator<Item = (String, Option<Document>)>,
        keys: &SharedKeys,
    ) {
        self.held().put(changes, keys);
    }

    /// The file has keys of these names, which win.
    pub fn yield_to<'a>(&self, names: impl Iterator<Item = &'a str>, keys: &SharedKeys) {
        let mut held = self.held();
        let names: HashSet<String> = names.map(str::to_owned).collect();
        let before = std::mem::replace(&mut held.of_file, names.clone());
        let other: Vec<String> = before.symmetric_difference(&names).cloned().collect();
        let again = other.into_iter().filter_map(|name| {
            let document = held.entries.get(&name)?.document.clone();
            Some((name, Some(document)))
        });
        let again: Vec<_> = again.collect();
        held.put(again.into_iter(), keys);
    }

    /// The names of all of them.
    pub fn names(&self) -> Vec<String> {
        self.held().entries.keys().cloned().collect()
    }

    /// All of them.
    pub fn documents(&self) -> Vec<Document> {
        let held = self.held();
        held.entries
            .values()
            .map(|entry| entry.document.clone())
            .collect()
    }

    /// Whose this key is.
    pub fn owner(&self, hash: &Hash) -> Option<String> {
        let held = self.held();
        let owner = held.owners.get(hash)?.first();
        owner.map(|(_, name)| name.clone())
    }

    /// The keys of a team.
    pub fn of_team(&self, team: &str) -> Vec<String> {
        let held = self.held();
        let of = held
            .entries
            .iter()
            .filter(|(_, entry)| entry.team.as_deref() == Some(team));
        of.map(|(name, _)| name.clone()).collect()
    }

    /// Those that are not served.
    pub fn left_out(&self) -> Vec<LeftOut> {
        let held = self.held();
        let left_out = |name: &String, why: String| LeftOut {
            kind: Kind::Key,
            name: name.clone(),
            why,
        };
        let unread = held.unread.iter();
        let unread = unread.map(|(name, why)| left_out(name, why.clone()));
        let second = held.second.iter();
        let second = second.map(|name| left_out(name, held.why_second(name)));
        unread.chain(second).collect()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn put(
        &mut self,
        changes: impl Iterator<Item = (String, Option<Document>)>,
        keys: &SharedKeys,
    ) {
        let mut touched = BTreeSet::new();
        for (name, document) in changes {
            touched.extend(self.forget(&name));
            if let Some(document) = document {
                touched.extend(self.learn(name, document));
            }
        }
        let gone: Vec<Hash> = touched
            .iter()
            .filter(|hash| !self.owners.contains_key(*hash))
            .copied()
            .collect();
        let here = self.winners(&touched);
        // Closed before it is opened to some, and opened to all only after nobody has a key.
        if !self.entries.is_empty() {
            keys.need(true);
        }
        // What one key leaves, another may take.
        keys.apply(gone, here);
        keys.need(!self.entries.is_empty());
    }

    /// What it was found by.
    fn forget(&mut self, name: &str) -> Vec<Hash> {
        self.unread.remove(name);
        self.second.remove(name);
        let Some(entry) = self.entries.remove(name) else {
            return Vec::new();
        };
        for hash in &entry.hashes {
            if let Some(owners) = self.owners.get_mut(hash) {
                owners.retain(|(_, owner)| owner != name);
                if owners.is_empty() {
                    self.owners.remove(hash);
                }
            }
        }
        entry.hashes
    }

    /// What it is found by now.
    fn learn(&mut self, name: String, document: Document) -> Vec<Hash> {
        let read = if self.of_file.contains(&name) {
            Err("the file has one of this name, which wins".to_owned())
        } else {
            key(&document).map_err(|problems| problems.join("; "))
        };
        let (hashes, team) = match read {
            Ok((hash, key)) => {
                let previous = key.previous.map(|previous| previous.hash);
                let hashes: Vec<Hash> = std::iter::once(hash).chain(previous).collect();
                (hashes, key.team)
            }
            Err(why) => {
                say(&name, &why);
                self.unread.insert(name.clone(), why);
                (Vec::new(), None)
            }
        };
        for hash in &hashes {
            let owners = self.owners.entry(*hash).or_default();
            owners.push((document.id, name.clone()));
            owners.sort();
        }
        let entry = Entry {
            document,
            hashes: hashes.clone(),
            team,
        };
        self.entries.insert(name, entry);
        hashes
    }

    /// The keys that own these hashes, each by its present one.
    fn winners(&mut self, touched: &BTreeSet<Hash>) -> Vec<(Hash, Key)> {
        let concerned: BTreeSet<String> = touched
            .iter()
            .filter_map(|hash| self.owners.get(hash))
            .flat_map(|owners| owners.iter().map(|(_, name)| name.clone()))
            .collect();
        let mut winners = Vec::new();
        for name in concerned {
            let Some(entry) = self.entries.get(&name) else {
                continue;
            };
            let owns = |hash: &Hash| {
                let owners = self.owners.get(hash);
                owners
                    .and_then(|owners| owners.first())
                    .is_some_and(|(_, owner)| *owner == name)
            };
            if !entry.hashes.first().is_some_and(owns) {
                if self.second.insert(name.clone()) {
                    say(&name, &self.why_second(&name));
                }
                continue;
            }
            if let Ok((hash, mut key)) = key(&entry.document) {
                key.previous = key.previous.filter(|previous| owns(&previous.hash));
                winners.push((hash, key));
            }
            self.second.remove(&name);
        }
        winners
    }

    fn why_second(&self, name: &str) -> String {
        let entry = self.entries.get(name);
        let hash = entry.and_then(|entry| entry.hashes.first());
        let owner = hash.and_then(|hash| self.owners.get(hash)?.first());
        let owner = owner.map_or("another", |(_, owner)| owner);
        format!("'{owner}' has the same key, and had it first")
    }
}

fn say(name: &str, why: &str) {
    tracing::warn!(
        kind = "key",
        name,
        why,
        "a document of the database is left out"
    );
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use polygate_core::Secret;
    use polygate_engine::admit::KeyRing;
    use polygate_store::Sealer;

    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(&Secret::new("a secret of some length")).expect("a sealer")
    }

    fn document(id: i64, name: &str, hash: u8) -> (String, Option<Document>) {
        let hash = sealer().hash(&hash.to_string());
        let document = Document {
            kind: Kind::Key,
            name: name.to_owned(),
            id,
            body: format!(r#"{{"key_hash": "{hash}"}}"#),
            version: id,
            created: 0,
            updated: 0,
        };
        (name.to_owned(), Some(document))
    }

    fn gone(name: &str) -> (String, Option<Document>) {
        (name.to_owned(), None)
    }

    fn hash(key: u8) -> Hash {
        Sealer::hash_of(&sealer().hash(&key.to_string())).expect("a hash")
    }

    fn serves(keys: &Arc<SharedKeys>, key: u8) -> Option<String> {
        let ring = KeyRing::of(sealer().pepper(), keys.clone());
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let caller = ring.authenticate(Some(&key.to_string()), here, 0).ok()?;
        Some(caller.key?.name.to_string())
    }

    #[test]
    fn of_two_that_have_a_key_the_first_owns_it_and_the_other_inherits() {
        for order in [[0, 1], [1, 0]] {
            let (book, keys) = (KeyBook::default(), Arc::new(SharedKeys::default()));
            let both = [document(1, "z", 7), document(2, "a", 7)];
            for at in order {
                book.put([both[at].clone()].into_iter(), &keys);
            }
            assert_eq!(serves(&keys, 7).as_deref(), Some("z"));
            assert_eq!(book.owner(&hash(7)).as_deref(), Some("z"));
            let left_out = book.left_out();
            assert_eq!(left_out.len(), 1);
            assert_eq!(
                (&*left_out[0].name, left_out[0].why.contains("'z'")),
                ("a", true)
            );
            book.put([gone("z")].into_iter(), &keys);
            assert_eq!(serves(&keys, 7).as_deref(), Some("a"));
            assert_eq!(book.left_out(), []);
            book.put([gone("a")].into_iter(), &keys);
            assert_eq!(serves(&keys, 7), None);
            assert!(!keys.are_needed());
        }
    }

    #[test]
    fn a_key_that_is_replaced_leaves_the_old_one_to_whoever_has_it() {
        let (book, keys) = (KeyBook::default(), Arc::new(SharedKeys::default()));
        book.put(
            [document(1, "a", 1), document(2, "b", 1)].into_iter(),
            &keys,
        );
        book.put([document(1, "a", 2)].into_iter(), &keys);
        assert_eq!(serves(&keys, 1).as_deref(), Some("b"));
        assert_eq!(serves(&keys, 2).as_deref(), Some("a"));
    }

    #[test]
    fn a_name_that_the_file_has_is_the_files() {
        let (book, keys) = (KeyBook::default(), Arc::new(SharedKeys::default()));
        book.put(
            [document(1, "a", 1), document(2, "b", 2)].into_iter(),
            &keys,
        );
        book.yield_to(["a"].into_iter(), &keys);
        assert_eq!(serves(&keys, 1), None);
        assert!(book.left_out()[0].why.contains("which wins"));
        assert!(keys.are_needed());
        book.put([document(1, "a", 3)].into_iter(), &keys);
        assert_eq!(serves(&keys, 3), None);
        book.yield_to(["b"].into_iter(), &keys);
        assert_eq!(serves(&keys, 3).as_deref(), Some("a"));
        assert_eq!(serves(&keys, 2), None);
    }
}
