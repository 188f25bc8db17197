//! What a file names and who refers to it, with their places: for problems that no single section can see.

use super::reader::Spot;

/// Something with a name.
#[derive(Clone, Debug)]
pub struct Named {
    /// The name.
    pub name: String,
    /// Where it got it.
    pub spot: Spot,
}

/// A name that somebody used.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The name.
    pub name: String,
    /// Who used it.
    pub by: String,
    /// Where.
    pub spot: Spot,
}

/// All names of a file. Lists of what is in the configuration have its order.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Providers in the configuration.
    pub providers: Vec<Named>,
    /// Names of providers that are in the file but were left out, or are wrong.
    pub absent: Vec<String>,
    /// Models in the configuration.
    pub models: Vec<Named>,
    /// Keys of callers in the configuration.
    pub keys: Vec<Named>,
    /// Teams in the configuration.
    pub teams: Vec<Named>,
    /// Teams that keys name.
    pub teams_named: Vec<Reference>,
    /// Providers that targets name.
    pub targets: Vec<Reference>,
    /// Models that fallbacks name.
    pub fallbacks: Vec<Reference>,
    /// Models that routes and shadows name.
    pub routes: Vec<Reference>,
}

impl Names {
    /// Adds those of another source.
    pub fn extend(&mut self, other: Names) {
        self.providers.extend(other.providers);
        self.absent.extend(other.absent);
        self.models.extend(other.models);
        self.keys.extend(other.keys);
        self.teams.extend(other.teams);
        self.teams_named.extend(other.teams_named);
        self.targets.extend(other.targets);
        self.fallbacks.extend(other.fallbacks);
        self.routes.extend(other.routes);
    }
}

impl Named {
    /// This name at this place.
    pub fn new(name: &str, spot: &Spot) -> Self {
        Self {
            name: name.to_owned(),
            spot: spot.clone(),
        }
    }
}
