//! Calls that wait for their responses, which Google's clients join by id, by name, or by order alone.

use std::collections::{HashMap, HashSet, VecDeque};

/// The calls of a conversation.
#[derive(Default)]
pub(super) struct Calls {
    all: Vec<Call>,
    by_id: HashMap<String, VecDeque<usize>>,
    by_name: HashMap<String, VecDeque<usize>>,
    /// Ids of all calls so far.
    ids: HashSet<String>,
}

struct Call {
    id: String,
    name: String,
    turn: usize,
    is_open: bool,
}

impl Calls {
    /// A call is made.
    pub(super) fn made(&mut self, id: &str, name: &str, turn: usize) {
        let place = self.all.len();
        let line = |lines: &mut HashMap<String, VecDeque<usize>>, key: &str| {
            lines.entry(key.to_owned()).or_default().push_back(place);
        };
        line(&mut self.by_id, id);
        line(&mut self.by_name, name);
        self.ids.insert(id.to_owned());
        self.all.push(Call {
            id: id.to_owned(),
            name: name.to_owned(),
            turn,
            is_open: true,
        });
    }

    /// The id and name of the call that a response answers: by its id, or the first of its name, of the latest turn if there is one.
    pub(super) fn answered(
        &mut self,
        id: &str,
        name: &str,
        turn: usize,
    ) -> Option<(String, String)> {
        let by_id = self.by_id.get_mut(id).filter(|_| !id.is_empty());
        let by_name = self.by_name.get_mut(name).filter(|_| !name.is_empty());
        let all = &self.all;
        let place = [by_id, by_name]
            .into_iter()
            .flatten()
            .find_map(|line| first(line, all, turn))?;
        let call = self.all.get_mut(place)?;
        call.is_open = false;
        Some((call.id.clone(), call.name.clone()))
    }

    /// An id that no call has.
    pub(super) fn new_id(&self, mut id: String) -> String {
        while self.ids.contains(&id) {
            id.push('_');
        }
        id
    }
}

/// Takes the first open call out of a line: of this turn if it has one, else of any.
fn first(line: &mut VecDeque<usize>, all: &[Call], turn: usize) -> Option<usize> {
    let is_open = |place: &usize| all.get(*place).is_some_and(|call| call.is_open);
    while line.front().is_some_and(|place| !is_open(place)) {
        line.pop_front();
    }
    // Lines are in the order of turns.
    let latest = line.partition_point(|place| all.get(*place).is_some_and(|call| call.turn < turn));
    let open = line
        .range(latest..)
        .position(is_open)
        .map_or(0, |at| at + latest);
    line.remove(open)
}
