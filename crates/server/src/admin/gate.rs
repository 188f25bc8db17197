//! Lets in who shows a key that may do what a route does. Those who try keys are slowed.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Extension, Request, State as Shared};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use polygate_engine::admit::same_secret;
use polygate_engine::config::Role;

use super::problem::Problem;
use super::role::{Access, Area, Principal, Reach, reach};
use crate::pages::Peer;
use crate::{State, key};

/// What a route does to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// To what.
    pub area: Area,
    /// What it does.
    pub access: Access,
}

/// A route's door: what is let in has its [`Principal`] in the extensions.
pub async fn gate(
    Shared((state, rights)): Shared<(State, Rights)>,
    Extension(Peer(peer)): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let principal = identify(&state, request.headers(), peer)?;
    if reach(principal.role, rights.area, rights.access) == Reach::Nothing {
        let path: String = request.uri().path().chars().take(200).collect();
        let action = format!("{} {path}", request.method());
        let admin = &state.admin;
        if admin.brake.notes(
            &format!("{} {action}", principal.name),
            state.engine.clock().now(),
        ) {
            let none = String::new();
            admin
                .note_of(&principal, &action, none, "insufficient_role")
                .await;
        }
        let message = format!(
            "key '{}' may not do this: its role is {}",
            principal.name,
            principal.role.name()
        );
        return Err(Problem::forbidden(message));
    }
    request.extensions_mut().insert(principal);
    Ok(next.run(request).await)
}

/// Finds out who asks.
pub fn identify(state: &State, headers: &HeaderMap, peer: IpAddr) -> Result<Principal, Problem> {
    let Some(shown) = key::bearer(headers) else {
        let message = "the admin key is needed: 'Authorization: Bearer ADMIN_KEY'";
        return Err(unauthorized("invalid_admin_key", message));
    };
    let now = state.engine.clock().now();
    // Before the key is looked at: who is slowed learns nothing of it, not even that it is right.
    if let Some(wait) = state.admin.brake.wait(peer, now) {
        return Err(too_many(wait));
    }
    if same_secret(shown, state.admin_key.reveal()) {
        return Ok(Principal {
            name: "admin".into(),
            role: Role::Admin,
            team: None,
            peer,
        });
    }
    let seconds = state.engine.clock().unix_seconds();
    let caller = state.engine.keys().authenticate(Some(shown), peer, seconds);
    let Some(key) = caller.ok().and_then(|caller| caller.key) else {
        state.admin.brake.failed(peer, now);
        let message = "this is not the admin key, nor a key with a role";
        return Err(unauthorized("invalid_admin_key", message));
    };
    Principal::of_key(&key, peer).ok_or_else(|| {
        let message = format!("key '{}' is for models: it has no role here", key.name);
        unauthorized("invalid_admin_key", &message)
    })
}

fn unauthorized(code: &'static str, message: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, code, message)
}

fn too_many(wait: Duration) -> Problem {
    let seconds = wait.as_secs() + 1;
    let message = format!("too many wrong keys came from this address: come again in {seconds} s");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message).after(seconds)
}
