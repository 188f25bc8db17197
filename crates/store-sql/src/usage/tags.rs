//! The tags of calls, by which these are found.

use polygate_store::usage::CallRow;
use sqlx::{Database, Encode, QueryBuilder, Type};

/// Bytes of a tag: what an index cannot hold, nobody looks for.
const LONGEST: usize = 1024;

/// A tag, when its call began, and the call's id.
pub(super) type Tagged<'a> = (String, i64, &'a str);

/// All tags of these.
pub(super) fn tagged<'a>(calls: &[&'a CallRow]) -> Vec<Tagged<'a>> {
    let of = |call: &&'a CallRow| {
        let (started, id) = (call.started, &*call.id);
        let tags = call.tag_list().into_iter().filter(|tag| is_findable(tag));
        tags.map(move |tag| (tag, started, id))
    };
    calls.iter().flat_map(of).collect()
}

/// No text of PostgreSQL's has a NUL.
fn is_findable(tag: &str) -> bool {
    tag.len() <= LONGEST && !tag.contains('\0')
}

/// Keeps these.
pub(super) fn insert<'a, DB>(tagged: &'a [Tagged<'a>]) -> QueryBuilder<DB>
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("INSERT INTO call_tags (tag, tagged, call_id) ");
    query.push_values(tagged, |mut row, (tag, started, id)| {
        row.push_bind(&**tag).push_bind(*started).push_bind(*id);
    });
    query.push(" ON CONFLICT (tag, tagged, call_id) DO NOTHING");
    query
}
