//! Words that a provider is not to see: it gets placeholders for them, and the answer has them again.

use std::sync::Arc;

use bytes::Bytes;
use polygate_core::Failure;

use super::Cloak;
use crate::call::Call;
use crate::guard::placeholder::Restoring;
use crate::guard::{Acted, Doings, Guard, Guarded, Side, Watch, body, look, replace, unseen};

/// What hides them, as metrics and answers name it, and what placeholders begin with.
const NAME: &str = "sensitive-words";
const LABEL: &str = "WORD";

/// A call as one provider may see it.
#[derive(Debug)]
pub(crate) struct Cloaked {
    /// With placeholders in it.
    pub call: Call,
    /// Its body, where it has no object.
    pub body: Bytes,
    /// What was done.
    pub acted: Vec<Acted>,
}

/// What finds these words; `None`: there are none.
pub(super) fn watch(words: &[String]) -> Result<Option<Watch>, String> {
    if words.is_empty() {
        return Ok(None);
    }
    let guard = Guard::of_words(NAME, LABEL, words)?;
    Ok(Some(Watch::new(&[Arc::new(guard)], Restoring::default())))
}

impl Cloak {
    /// A call as it may be seen; `None`: as it is. `Err`: it cannot be looked through.
    pub(crate) fn hide(&self, call: &Call, body: &Bytes) -> Result<Option<Box<Cloaked>>, Failure> {
        let Some(watch) = &self.hidden else {
            return Ok(None);
        };
        // Placeholders of guards stay what they are, whatever word may be in them: else nobody knew them again.
        let others = call.guarded.as_ref().map(|guarded| guarded.restoring());
        let others = others.filter(|restoring| !restoring.is_empty());
        let watch = &match others {
            Some(restoring) => watch.also(&restoring.staying()),
            None => watch.clone(),
        };
        let mut doings = Doings::new(Side::Request, self.pseudonyms.maker());
        let replaced = look(watch, call, body, &mut doings)?;
        let said = call.said.as_deref().map(str::as_bytes).unwrap_or_default();
        let said = body::text(said, watch, &mut doings)?;
        if doings.acted().is_empty() {
            return Ok(None);
        }
        let (mut call, mut body) = (call.again(), body.clone());
        call.guarded = Some(Arc::new(Guarded::also(&call, doings.restoring())));
        if let Some(said) = said {
            call.said = Some(String::from_utf8_lossy(&said).into_owned());
        }
        if let Some(bytes) = replaced {
            replace(&mut call, &mut body, bytes)?;
        }
        Ok(Some(Box::new(Cloaked {
            call,
            body,
            acted: doings.acted().to_vec(),
        })))
    }

    /// Whether it may pass what nobody can look through. `Err`: there are words that it has to hide.
    pub(crate) fn pass_unseen(&self, what: &str) -> Result<(), Failure> {
        match self.hidden {
            Some(_) => Err(unseen(NAME, what)),
            None => Ok(()),
        }
    }
}
