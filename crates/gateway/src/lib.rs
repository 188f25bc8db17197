//! The binary's parts: command line, configuration, and how everything is joined.

pub mod boot;
pub mod cli;
pub mod config;
mod reload;
pub mod watch;
