//! Calls, one by one: all of them, and those with an error under a name of their own.

use axum::response::Json;
use http::{Method, StatusCode};
use polygate_store::usage::{AttemptRow, CallFilter, CallPage, CallRow, CallSort, Filter, Order};
use serde_json::{Value, json};

use super::asked::Asked;
use super::problem::Problem;
use super::role::Area;
use super::route::{Doc, Param, ParamKind, Route};
use super::usage::{asked_moment, team, wrong};
use super::view;
use super::write::asking;

/// Calls of a page, the most there may be, and the last page that can be asked for.
const USUAL: u32 = 50;
const MOST: u32 = 200;
const LAST_PAGE: u32 = 1_000_000;

/// So many may be deleted at a time.
const BATCH: usize = 1000;

/// Whose calls a list has.
#[derive(Clone, Copy)]
struct List {
    path: &'static str,
    name: &'static str,
    /// Only those with an error.
    errors: bool,
}

const LISTS: [List; 2] = [
    List {
        path: "/admin/v1/logs",
        name: "logs",
        errors: false,
    },
    List {
        path: "/admin/v1/error-logs",
        name: "error_logs",
        errors: true,
    },
];

const SORTS: [(&str, CallSort); 4] = [
    ("created_at", CallSort::Started),
    ("status_code", CallSort::Status),
    ("total_duration_ms", CallSort::Duration),
    ("cost_micro_usd", CallSort::Cost),
];

const SORT_WORDS: &[&str] = &[
    "created_at",
    "status_code",
    "total_duration_ms",
    "cost_micro_usd",
];

const fn text(name: &'static str, about: &'static str) -> Param {
    Param {
        name,
        kind: ParamKind::Text,
        about,
    }
}

/// What both the list and its sums take.
const OF: [Param; 5] = [
    text("provider_name", "answered by this provider"),
    text(
        "model",
        "of this model: as asked, as sums name it, or as the provider calls it",
    ),
    text("credential_name", "of this key, by name"),
    text(
        "start_time",
        "from this moment: RFC 3339, a day, or seconds since 1970",
    ),
    text("end_time", "before this moment, likewise"),
];

const LIST: &[Param] = &[
    Param {
        name: "page",
        kind: ParamKind::Number(1, LAST_PAGE as i64),
        about: "which page; 1 unless said",
    },
    Param {
        name: "page_size",
        kind: ParamKind::Number(1, MOST as i64),
        about: "calls of a page; 50 unless said",
    },
    text("request_id", "with this `x-request-id`"),
    OF[0],
    OF[1],
    OF[2],
    text("team", "of this team"),
    text("end_user", "made for this end user, as the caller says"),
    text("session", "part of this session, as the caller says"),
    text(
        "tag",
        "with this tag: of the key, its team, or as the caller says",
    ),
    Param {
        name: "status_code",
        kind: ParamKind::Number(0, 999),
        about: "with this status; 0 where a call was cut off with the gateway",
    },
    Param {
        name: "is_streaming",
        kind: ParamKind::Flag,
        about: "streams, or not",
    },
    Param {
        name: "cached",
        kind: ParamKind::Flag,
        about: "answered by the cache, or not",
    },
    Param {
        name: "is_shadow",
        kind: ParamKind::Flag,
        about: "shadows of other calls, or not",
    },
    Param {
        name: "error_only",
        kind: ParamKind::Flag,
        about: "only those with an error",
    },
    OF[3],
    OF[4],
    Param {
        name: "sort_by",
        kind: ParamKind::Word(SORT_WORDS),
        about: "by what they are sorted; `created_at` unless said",
    },
    Param {
        name: "sort_order",
        kind: ParamKind::Word(&["asc", "desc"]),
        about: "`desc` unless said",
    },
];

const STATS: &[Param] = &[
    OF[0],
    text("model", "of this model, as sums name it"),
    OF[2],
    text("team", "of this team"),
    text("start_time", "from this moment; sums begin with its hour"),
    text("end_time", "before this moment; sums end with its hour"),
];

/// Their routes.
pub fn routes() -> Vec<Route> {
    LISTS.into_iter().flat_map(routes_of).collect()
}

/// A status, and the name of a schema.
type Answers = Vec<(u16, Option<&'static str>)>;

impl List {
    fn path(self, tail: &str) -> String {
        format!("{}{tail}", self.path)
    }

    fn doc(self, verb: &str, summary: &str, answers: Answers) -> Doc {
        Doc {
            id: format!("{verb}_{}", self.name),
            summary: summary.to_owned(),
            answers,
            ..Doc::default()
        }
    }
}

fn routes_of(list: List) -> [Route; 5] {
    let (errors, area) = (list.errors, Area::Logs);
    let page = Doc {
        query: LIST,
        refusals: &[400],
        ..list.doc(
            "list",
            "Calls, the newest first unless sorted otherwise",
            vec![(200, Some("Logs"))],
        )
    };
    let sums = Doc {
        query: STATS,
        refusals: &[400],
        ..list.doc(
            "sum",
            "How many calls there were, and what they add up to",
            vec![(200, Some("LogStats"))],
        )
    };
    let whole = Doc {
        refusals: &[404],
        ..list.doc(
            "get",
            "A call with its attempts, by its own id or the request's",
            vec![(200, Some("Log"))],
        )
    };
    let nothing = Doc {
        refusals: &[404],
        ..list.doc("delete", "Forgets a call; sums stay", vec![(204, None)])
    };
    let batch = Doc {
        body: Some("LogIds"),
        refusals: &[400, 422],
        ..list.doc(
            "batch_delete",
            "Forgets up to 1000 calls by their own ids; sums stay",
            vec![(200, Some("DeletedLogs"))],
        )
    };
    let list_page = move |asked: Asked| page_of(asked, errors);
    let single = move |asked: Asked| single(asked, errors);
    let forget = move |asked: Asked| forget(asked, errors);
    [
        Route::new(Method::GET, list.path(""), area, list_page, page),
        Route::new(Method::GET, list.path("/stats"), area, stats, sums),
        Route::new(Method::GET, list.path("/{id}"), area, single, whole),
        Route::new(Method::DELETE, list.path("/{id}"), area, forget, nothing),
        Route::new(
            Method::POST,
            list.path("/batch-delete"),
            area,
            forget_some,
            batch,
        ),
    ]
}

fn names(params: &[Param]) -> Vec<&'static str> {
    params.iter().map(|param| param.name).collect()
}

async fn page_of(asked: Asked, errors: bool) -> Result<Json<Value>, Problem> {
    asked.knows(&names(LIST))?;
    let page = number(&asked, "page", 1, 1, LAST_PAGE)?;
    let size = number(&asked, "page_size", USUAL, 1, MOST)?;
    let filter = CallFilter {
        of: Filter {
            key: asked.query("credential_name").map(str::to_owned),
            team: team(&asked)?,
            provider: asked.query("provider_name").map(str::to_owned),
            from: asked_moment(&asked, "start_time")?,
            until: asked_moment(&asked, "end_time")?,
            model: None,
        },
        named: asked.query("model").map(str::to_owned),
        request_id: asked.query("request_id").map(str::to_owned),
        end_user: asked.query("end_user").map(str::to_owned),
        session: asked.query("session").map(str::to_owned),
        tag: asked.query("tag").map(str::to_owned),
        status: status(&asked)?,
        stream: asked
            .query("is_streaming")
            .map(|_| asked.flag("is_streaming"))
            .transpose()?,
        cached: asked
            .query("cached")
            .map(|_| asked.flag("cached"))
            .transpose()?,
        shadow: asked
            .query("is_shadow")
            .map(|_| asked.flag("is_shadow"))
            .transpose()?,
        errors: asked.flag("error_only")? || errors,
    };
    let wanted = CallPage {
        offset: (page - 1).saturating_mul(size),
        limit: size,
        order: order(&asked)?,
    };
    let found = asking(asked.state.admin.store.calls(&filter, wanted)).await?;
    let items: Vec<Value> = found.calls.iter().map(item).collect();
    let pages = found.total.max(0).unsigned_abs().div_ceil(u64::from(size));
    Ok(Json(json!({
        "items": items,
        "total": found.total,
        "total_is_exact": found.is_exact,
        "page": page,
        "page_size": size,
        "total_pages": pages,
    })))
}

async fn stats(asked: Asked) -> Result<Json<Value>, Problem> {
    asked.knows(&names(STATS))?;
    let filter = Filter {
        key: asked.query("credential_name").map(str::to_owned),
        team: team(&asked)?,
        provider: asked.query("provider_name").map(str::to_owned),
        model: asked.query("model").map(str::to_owned),
        from: asked_moment(&asked, "start_time")?,
        until: asked_moment(&asked, "end_time")?,
    };
    let sums = asking(asked.state.admin.store.totals(&filter, None)).await?;
    let totals = sums.into_iter().next().map(|group| group.totals);
    let totals = totals.unwrap_or_default();
    Ok(Json(json!({
        "total": totals.calls,
        "errors": totals.errors,
        "totals": totals,
    })))
}

/// A call that the asker may see.
pub(super) async fn found(asked: &Asked, errors: bool) -> Result<CallRow, Problem> {
    let id = asked.param("id");
    let confined = asked.principal.confined();
    let row = asking(asked.state.admin.store.call(id, confined)).await?;
    let row = row.filter(|row| !errors || row.error.is_some());
    row.ok_or_else(|| Problem::missing("call", id))
}

async fn single(asked: Asked, errors: bool) -> Result<Json<Value>, Problem> {
    asked.knows(&[])?;
    let row = found(&asked, errors).await?;
    let mut whole = item(&row);
    whole["attempts"] = row.attempts.iter().map(attempt).collect();
    Ok(Json(whole))
}

async fn forget(asked: Asked, errors: bool) -> Result<StatusCode, Problem> {
    asked.knows(&[])?;
    let row = found(&asked, errors).await?;
    asking(
        asked
            .state
            .admin
            .store
            .forget_calls(std::slice::from_ref(&row.id)),
    )
    .await?;
    note(&asked, format!("call {}", row.id)).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Notes in the audit log what was deleted.
async fn note(asked: &Asked, subject: String) {
    let (principal, action) = (&asked.principal, "delete logs");
    asked
        .state
        .admin
        .note_of(principal, action, subject, "done")
        .await;
}

async fn forget_some(asked: Asked) -> Result<Json<Value>, Problem> {
    asked.knows(&[])?;
    let ids = ids(&asked)?;
    let deleted = asking(asked.state.admin.store.forget_calls(&ids)).await?;
    note(&asked, format!("{deleted} calls")).await;
    Ok(Json(json!({ "deleted": deleted })))
}

fn ids(asked: &Asked) -> Result<Vec<String>, Problem> {
    let mut members = asked.members()?;
    let ids = members.remove("ids");
    if let Some(name) = members.keys().next() {
        return Err(Problem::field(name, "unknown member; there is 'ids'"));
    }
    let Some(Value::Array(ids)) = ids else {
        return Err(Problem::field("ids", "must be a list of ids of calls"));
    };
    if ids.is_empty() || ids.len() > BATCH {
        let message = format!("must have 1 to {BATCH} ids");
        return Err(Problem::field("ids", message));
    }
    let read = |(at, id): (usize, &Value)| {
        let id = id.as_str().map(str::to_owned);
        id.ok_or_else(|| Problem::field(&format!("ids[{at}]"), "must be a text"))
    };
    ids.iter().enumerate().map(read).collect()
}

fn number(asked: &Asked, name: &str, usual: u32, least: u32, most: u32) -> Result<u32, Problem> {
    let Some(text) = asked.query(name) else {
        return Ok(usual);
    };
    let number = text.parse().ok();
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| wrong(name, &format!("must be a number from {least} to {most}")))
}

fn status(asked: &Asked) -> Result<Option<i32>, Problem> {
    let status = number(asked, "status_code", 0, 0, 999)?;
    Ok(asked.query("status_code").and(i32::try_from(status).ok()))
}

fn order(asked: &Asked) -> Result<Order, Problem> {
    let word = asked.query("sort_by").unwrap_or("created_at");
    let found = SORTS.into_iter().find(|(known, _)| *known == word);
    let message = || format!("must be one of {}", SORT_WORDS.join(", "));
    let (_, by) = found.ok_or_else(|| wrong("sort_by", &message()))?;
    match asked.query("sort_order").unwrap_or("desc") {
        "desc" => Ok(Order {
            by,
            ascending: false,
        }),
        "asc" => Ok(Order {
            by,
            ascending: true,
        }),
        _ => Err(wrong("sort_order", "must be asc or desc")),
    }
}

/// A call under the published names, and what there is beside them.
fn item(row: &CallRow) -> Value {
    json!({
        "id": row.id,
        "created_at": view::time(row.started),
        "request_id": row.request_id,
        "endpoint": row.endpoint,
        "credential_name": row.key,
        "team": row.team,
        "requested_model": row.model,
        "mapped_model": row.upstream_model,
        "model": row.label,
        "provider_name": row.provider,
        "provider_credential_name": row.credential,
        "client": row.client,
        "is_streaming": row.stream,
        "status_code": row.status,
        "outcome": row.outcome,
        "error_category": row.error,
        "state": row.state,
        "input_tokens": row.usage.input,
        "output_tokens": row.usage.output,
        "total_tokens": row.usage.total(),
        "tokens": row.usage,
        "cost_micro_usd": row.cost,
        "price": parsed(row.price.as_deref()),
        "losses": parsed(row.losses.as_deref()),
        "end_user": row.end_user,
        "session": row.session,
        "passed_over": parsed(row.passed_over.as_deref()),
        "cached": row.cached,
        "saved_tokens": row.saved,
        "shadow_of": row.shadow_of,
        "tags": parsed(row.tags.as_deref()),
        "metadata": parsed(row.metadata.as_deref()),
        "total_duration_ms": millis(row.duration),
        "ttft_ms": row.first_event.map(millis),
    })
}

pub(super) fn attempt(attempt: &AttemptRow) -> Value {
    json!({
        "provider_name": attempt.provider,
        "provider_credential_name": attempt.credential,
        "mapped_model": attempt.model,
        "outcome": attempt.outcome,
        "status_code": attempt.status,
        "started_ms": millis(attempt.started),
        "duration_ms": millis(attempt.duration),
        "state": attempt.state,
        "tokens": attempt.usage,
        "cost_micro_usd": attempt.cost,
    })
}

pub(super) fn millis(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

/// JSON that is kept as text.
pub(super) fn parsed(text: Option<&str>) -> Value {
    let read = text.and_then(|text| serde_json::from_str(text).ok());
    read.unwrap_or_default()
}
