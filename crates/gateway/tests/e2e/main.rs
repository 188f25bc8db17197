//! End to end: the real binary between real sockets, in front of scriptable providers.

#![expect(clippy::panic, reason = "a helper that cannot go on fails its test")]

mod admin;
mod admin_docs;
mod admin_documents;
mod admin_lists;
mod admin_replicas;
mod admin_roles;
mod admin_versions;
mod bad_input;
mod bedrock;
mod budgets;
mod cancel;
mod clients;
mod connections;
mod continuation;
mod corpus;
mod corpus_translated;
mod counting;
mod database;
mod failover;
mod fallbacks;
mod floods;
mod full_disk;
mod health;
mod hedge;
mod held;
mod keys;
mod lanes;
mod ledger;
mod ledger_crash;
mod limits;
mod prices;
mod reload;
mod replicas;
mod restart;
mod routing;
mod shared;
mod soak;
mod stopping;
mod strategies;
mod support;
mod telemetry;
mod tls;
mod usage;
mod wall;
