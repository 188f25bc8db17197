//! Zero configuration: providers from the well-known variables.

use polygate_core::Secret;
use polygate_engine::config::{Config, Credential, Provider};
use polygate_providers::Row;

use super::env::Environment;

/// A configuration of every provider whose key is in the environment; of none, where none is.
pub fn read(environment: &Environment, rows: &[Row]) -> Config {
    Config {
        providers: rows
            .iter()
            .filter(|row| row.starts)
            .filter_map(|row| provider(environment, row))
            .collect(),
        ..Config::default()
    }
}

fn provider(environment: &Environment, row: &Row) -> Option<Provider> {
    let names: Vec<&str> = row.env.iter().map(String::as_str).collect();
    let (variable, key) = environment.first(&names)?;
    let mut provider = Provider::new(&row.name, &row.name);
    // `deepseek/deepseek-chat` says which; plain names go to whoever has them.
    provider.prefix = Some(format!("{}/", row.name));
    let region_env: Vec<&str> = row.region_env.iter().map(String::as_str).collect();
    let region = environment.first(&region_env);
    provider.region = region.map(|(_, region)| region.trim().to_owned());
    let key = Credential::new(variable, Secret::new(key.trim()));
    provider.credentials.push(key);
    Some(provider)
}
