//! What the admin API asks of the configuration in force: the file's part, what would come of documents, and when they are in force.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use polygate_engine::Engine;
use polygate_server::admin::Field;
use polygate_server::admin::configuration::{
    Checked, Configuration, FileObject, LeftOut, Standing,
};
use polygate_store::Sealer;
use polygate_store::config::{Change, Document, Documents, Kind, Put};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::documents::{self, Base, key};
use crate::config::objects::objects;
use crate::follow::{Followed, KeyBook};
use crate::reload::InForce;

/// How long a write waits to be in force.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks for everything to be read again; told what is wrong.
pub type Reload = oneshot::Sender<Result<(), Vec<String>>>;

/// The configuration in force, for the admin API.
pub struct Live {
    /// The engine that serves by it.
    pub engine: Arc<Engine>,
    /// What the database says, keys aside.
    pub documents: watch::Receiver<Arc<Documents>>,
    /// How far it is followed.
    pub followed: watch::Receiver<Followed>,
    /// Its keys.
    pub keys: Arc<KeyBook>,
    /// What is served of all that.
    pub in_force: watch::Receiver<InForce>,
    /// Opens secrets.
    pub sealer: Arc<Sealer>,
    /// Asks for the file to be read again.
    pub reload: mpsc::Sender<Reload>,
}

impl Live {
    fn base(&self) -> Arc<Base> {
        self.in_force.borrow().base.clone()
    }
}

#[async_trait]
impl Configuration for Live {
    fn file_objects(&self, kind: Kind) -> Vec<FileObject> {
        objects(self.base().config(), kind)
    }

    fn is_in_file(&self, kind: Kind, name: &str) -> bool {
        self.base().has(kind, name)
    }

    async fn check(&self, puts: &[Put]) -> Checked {
        let documents = self.documents.borrow().clone();
        let (base, sealer, puts) = (self.base(), self.sealer.clone(), puts.to_vec());
        let book = self.keys.clone();
        // A configuration is compiled, twice: not on a thread that serves.
        let checked =
            tokio::task::spawn_blocking(move || check(&base, &documents, &book, &sealer, &puts));
        checked.await.unwrap_or_else(|error| Checked {
            problems: vec![Field::new("", format!("could not be checked: {error}"))],
            ..Checked::default()
        })
    }

    fn left_out(&self) -> Vec<LeftOut> {
        let mut all = self.in_force.borrow().left_out.clone();
        all.extend(self.keys.left_out());
        all
    }

    fn key_of(&self, hash: &[u8; 32]) -> Option<String> {
        self.keys.owner(hash)
    }

    fn standing(&self) -> Standing {
        let followed = *self.followed.borrow();
        let refused = self.in_force.borrow().refused;
        Standing {
            version: followed.version,
            since: followed.since,
            generation: self.engine.snapshot().generation,
            is_file_refused: refused.file,
            are_documents_refused: refused.documents,
            is_store_up: !followed.is_away,
        }
    }

    async fn in_force(&self, version: i64) -> bool {
        let (mut followed, mut in_force) = (self.followed.clone(), self.in_force.clone());
        let waiting = async {
            followed
                .wait_for(|followed| followed.version >= version)
                .await
                .ok()?;
            // Of what is no key, this much is known by now.
            let told = self.documents.borrow().version;
            in_force
                .wait_for(|in_force| in_force.version >= told)
                .await
                .ok()?;
            Some(())
        };
        matches!(tokio::time::timeout(PATIENCE, waiting).await, Ok(Some(())))
    }

    async fn reload(&self) -> Result<(), Vec<String>> {
        let (tell, told) = oneshot::channel();
        let stopping = || vec!["the gateway is stopping".to_owned()];
        self.reload.send(tell).await.map_err(|_| stopping())?;
        told.await.map_err(|_| stopping())?
    }
}

/// What would come of these.
fn check(
    base: &Base,
    documents: &Documents,
    book: &KeyBook,
    sealer: &Sealer,
    puts: &[Put],
) -> Checked {
    let mut checked = Checked::default();
    let (of_keys, of_others): (Vec<&Put>, Vec<&Put>) =
        puts.iter().partition(|put| put.kind == Kind::Key);
    let mut after = documents.clone();
    let changes: Vec<Change> = of_others.iter().map(|put| change(put)).collect();
    after.apply(&changes);
    for put in of_keys {
        checked.problems.extend(of_key(base, &after, put));
    }
    if of_others.is_empty() {
        return checked;
    }
    let gone = of_others
        .iter()
        .filter(|put| put.kind == Kind::Team && put.body.is_none());
    for put in gone {
        let keys = book.of_team(&put.name).into_iter();
        let keys = keys.filter(|name| {
            !puts
                .iter()
                .any(|put| put.kind == Kind::Key && put.name == *name)
        });
        checked.left_out.extend(keys.map(|name| LeftOut {
            kind: Kind::Key,
            name,
            why: format!("there is no team '{}'", put.name),
        }));
    }
    let before = base.with(documents, sealer, &Engine::check).left_out;
    for left_out in base.with(&after, sealer, &Engine::check).left_out {
        let (kind, name) = (left_out.kind, left_out.name.as_str());
        if of_others
            .iter()
            .any(|put| put.kind == kind && put.name == name)
        {
            checked
                .problems
                .extend(fields(kind, name, &left_out.problems));
        } else if !before
            .iter()
            .any(|one| one.kind == kind && one.name == name)
        {
            checked.left_out.push(left_out.said());
        }
    }
    checked
}

/// What is wrong with a key.
fn of_key(base: &Base, documents: &Documents, put: &Put) -> Vec<Field> {
    let Some(document) = would_be(put) else {
        return Vec::new();
    };
    if base.has(Kind::Key, &put.name) {
        return vec![in_file(put)];
    }
    let team = match key(&document) {
        Ok((_, key)) => key.team,
        Err(problems) => return fields(put.kind, &put.name, &problems),
    };
    let is_there = |team: &String| base.has(Kind::Team, team) || has(documents, Kind::Team, team);
    let missing = team.filter(|team| !is_there(team));
    let missing = missing.map(|team| Field::new("team", format!("there is no team '{team}'")));
    missing.into_iter().collect()
}

fn has(documents: &Documents, kind: Kind, name: &str) -> bool {
    let mut documents = documents.documents.iter();
    documents.any(|document| document.kind == kind && document.name == name)
}

fn in_file(put: &Put) -> Field {
    Field::new(
        "",
        format!("the file has a {} '{}', which wins", put.kind, put.name),
    )
}

/// Problems by field: the reader's begin with the place, the engine's with the name.
fn fields(kind: Kind, name: &str, problems: &[String]) -> Vec<Field> {
    let place = documents::place(kind, name);
    let named = format!("{kind} '{name}':");
    let field = |problem: &String| {
        if let Some(rest) = problem.strip_prefix(&place)
            && let Some((field, message)) = rest.split_once(": ")
        {
            return Field::new(field.trim_start_matches('.'), message);
        }
        let rest = problem.strip_prefix(&named).unwrap_or(problem);
        Field::new("", rest.trim())
    };
    problems.iter().map(field).collect()
}

fn would_be(put: &Put) -> Option<Document> {
    Some(Document {
        kind: put.kind,
        name: put.name.clone(),
        id: 0,
        body: put.body.clone()?,
        version: 0,
        created: 0,
        updated: 0,
    })
}

fn change(put: &Put) -> Change {
    Change {
        version: 0,
        kind: put.kind,
        name: put.name.clone(),
        before: None,
        after: would_be(put),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_about_a_field_where_it_says_so() {
        let said = |problem: &str| {
            let found = fields(Kind::Model, "m: x", &[problem.to_owned()]);
            let found = found.into_iter().next().expect("one");
            (found.field, found.message)
        };
        for (problem, field, message) in [
            (
                "database, model 'm: x'.targets[0].provider: there is no provider 'p'; did you mean 'q'?",
                "targets[0].provider",
                "there is no provider 'p'; did you mean 'q'?",
            ),
            (
                "database, model 'm: x': its fallbacks go round",
                "",
                "its fallbacks go round",
            ),
            (
                "model 'm: x': nothing to serve it",
                "",
                "nothing to serve it",
            ),
            (
                "the file has one of this name, which wins",
                "",
                "the file has one of this name, which wins",
            ),
        ] {
            assert_eq!(said(problem), (field.to_owned(), message.to_owned()));
        }
    }
}
