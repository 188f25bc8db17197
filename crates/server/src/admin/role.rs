//! Who may do what in the admin API: one table.

use std::net::IpAddr;
use std::sync::Arc;

use polygate_engine::admit::Key;
use polygate_engine::config::Role;

/// What a route is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Whether a key is a good one.
    Session,
    /// What is in force, in all.
    Overview,
    /// Upstreams.
    Providers,
    /// Names of models with their targets.
    Models,
    /// Keys of callers.
    Keys,
    /// Teams of callers.
    Teams,
    /// What models cost.
    Prices,
    /// Versions of the configuration.
    Config,
    /// Who did what.
    Audit,
    /// What rests, and checks.
    Health,
    /// Sums of calls.
    Usage,
    /// Calls, one by one.
    Logs,
    /// Where a call would go.
    Explain,
    /// Answers that are kept.
    Cache,
}

/// What a route does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Looks.
    Read,
    /// Changes something, or costs something.
    Write,
}

/// How far somebody gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To all of it.
    All,
    /// To what is of the own team.
    Team,
    /// Not at all.
    Nothing,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Principal {
    /// `admin`, or the name of the key.
    pub name: Arc<str>,
    /// What it is.
    pub role: Role,
    /// Its team.
    pub team: Option<Arc<str>>,
    /// Where it asks from.
    pub peer: IpAddr,
}

impl Principal {
    /// Whom this key makes of its owner; `None` where it has no role, or one of a team and no team.
    pub fn of_key(key: &Key, peer: IpAddr) -> Option<Self> {
        let is_of_nobody = |role: &Role| *role == Role::TeamAdmin && key.team.is_none();
        Some(Self {
            name: key.name.clone(),
            role: key.role.filter(|role| !is_of_nobody(role))?,
            team: key.team.clone(),
            peer,
        })
    }

    /// Who, for those who read what was done.
    pub fn actor(&self) -> String {
        format!("{}@{}", self.name, self.peer.to_canonical())
    }

    /// The team that it is confined to.
    pub fn confined(&self) -> Option<&str> {
        match self.role {
            Role::TeamAdmin => Some(self.team.as_deref().unwrap_or_default()),
            Role::Admin | Role::ReadOnly => None,
        }
    }
}

/// How far a role gets: the table. An admin gets everywhere.
pub fn reach(role: Role, area: Area, access: Access) -> Reach {
    use Access::{Read, Write};
    use Reach::{All, Nothing, Team};
    let (read_only, team_admin) = match (area, access) {
        (Area::Session, Read) => (All, All),
        (Area::Keys, Read) => (All, Team),
        (Area::Keys, Write) => (Nothing, Team),
        (Area::Teams | Area::Usage | Area::Logs, Read) => (All, Team),
        (_, Read) => (All, Nothing),
        (_, Write) => (Nothing, Nothing),
    };
    match role {
        Role::Admin => All,
        Role::ReadOnly => read_only,
        Role::TeamAdmin => team_admin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Access::{Read, Write};
    use Area::*;

    const AREAS: [Area; 14] = [
        Session, Overview, Providers, Models, Keys, Teams, Prices, Config, Audit, Health, Usage,
        Logs, Explain, Cache,
    ];

    #[test]
    fn an_admin_may_do_everything_and_readers_nothing_but_read() {
        for area in AREAS {
            for access in [Read, Write] {
                assert_eq!(reach(Role::Admin, area, access), Reach::All);
            }
            assert_eq!(reach(Role::ReadOnly, area, Read), Reach::All, "{area:?}");
            assert_eq!(
                reach(Role::ReadOnly, area, Write),
                Reach::Nothing,
                "{area:?}"
            );
        }
    }

    #[test]
    fn a_team_admin_gets_to_its_team_and_no_further() {
        let of_team = [
            (Keys, Read),
            (Keys, Write),
            (Teams, Read),
            (Usage, Read),
            (Logs, Read),
        ];
        for area in AREAS {
            for access in [Read, Write] {
                let expected = match (area, access) {
                    (Session, Read) => Reach::All,
                    pair if of_team.contains(&pair) => Reach::Team,
                    _ => Reach::Nothing,
                };
                assert_eq!(
                    reach(Role::TeamAdmin, area, access),
                    expected,
                    "{area:?} {access:?}"
                );
            }
        }
    }

    #[test]
    fn a_team_admin_without_a_team_is_confined_to_none() {
        let principal = |role, team: Option<&str>| Principal {
            name: "k".into(),
            role,
            team: team.map(Into::into),
            peer: [127, 0, 0, 1].into(),
        };
        assert_eq!(principal(Role::TeamAdmin, None).confined(), Some(""));
        assert_eq!(principal(Role::TeamAdmin, Some("a")).confined(), Some("a"));
        assert_eq!(principal(Role::ReadOnly, Some("a")).confined(), None);
        assert_eq!(principal(Role::Admin, None).actor(), "k@127.0.0.1");
    }
}
