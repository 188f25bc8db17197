//! The headers by which callers say something of themselves: ours, and those that they know from other gateways, tools and agents.

/// What a header or a member is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// Whom the call is made for.
    EndUser,
    /// What it is part of.
    Session,
    /// What it is counted under, with commas between.
    Tags,
    /// An object of JSON.
    Metadata,
}

/// Of each kind the strongest first. Those with underscores are spelt so by their clients.
pub(super) const HEADERS: [(&str, Says); 25] = [
    ("x-polygate-user", Says::EndUser),
    ("x-litellm-customer-id", Says::EndUser),
    ("x-litellm-end-user-id", Says::EndUser),
    ("helicone-user-id", Says::EndUser),
    ("langfuse_trace_user_id", Says::EndUser),
    ("x-openwebui-user-id", Says::EndUser),
    ("x-openwebui-user-email", Says::EndUser),
    ("x-polygate-session", Says::Session),
    ("x-session-id", Says::Session),
    ("x-litellm-session-id", Says::Session),
    ("x-bf-session-id", Says::Session),
    ("helicone-session-id", Says::Session),
    ("langfuse_session_id", Says::Session),
    ("x-openwebui-chat-id", Says::Session),
    ("x-claude-code-session-id", Says::Session),
    ("session-id", Says::Session),
    ("session_id", Says::Session),
    ("x-session-affinity", Says::Session),
    ("x-litellm-trace-id", Says::Session),
    ("x-portkey-trace-id", Says::Session),
    ("x-polygate-tags", Says::Tags),
    ("x-litellm-tags", Says::Tags),
    ("x-polygate-metadata", Says::Metadata),
    ("x-litellm-spend-logs-metadata", Says::Metadata),
    ("x-portkey-metadata", Says::Metadata),
];

/// What these are followed by is the name of one member of the metadata.
pub(super) const PROPERTY_PREFIX: &str = "helicone-property-";
pub(super) const PROPERTY: (&str, Says) = ("helicone-property-*", Says::Metadata);

/// What they all begin with: hardly any other header does, and those are not looked for.
const BEGINNINGS: &[u8] = b"hlsx";

/// How strong a header is, where it says anything: the less, the stronger.
pub(super) fn rank(name: &str) -> Option<usize> {
    let first = name.as_bytes().first()?;
    if !BEGINNINGS.contains(first) {
        return None;
    }
    let known = HEADERS.iter().position(|(known, _)| *known == name);
    known.or_else(|| name.starts_with(PROPERTY_PREFIX).then_some(HEADERS.len()))
}
