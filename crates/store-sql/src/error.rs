//! Which errors of a database pass by themselves.

use polygate_store::StoreError;

/// What SQLite says when it may work later: busy, locked, out of memory, read-only, an I/O error, a full disk, a file that does not open.
const SQLITE_TEMPORARY: [i32; 7] = [5, 6, 7, 8, 10, 13, 14];

/// Classes of PostgreSQL's codes that pass: connections, a server that only reads, passwords, a database that is not there, rollbacks
/// that ask for another try, resources, intervention, the system.
const POSTGRES_TEMPORARY: [&str; 8] = ["08", "25", "28", "3D", "40", "53", "57", "58"];

/// What SQLite says of data that it does not take: too big, against a constraint, of another type, out of range.
const SQLITE_OF_DATA: [i32; 4] = [18, 19, 20, 25];

/// Such classes of PostgreSQL's: data, constraints, limits.
const POSTGRES_OF_DATA: [&str; 3] = ["22", "23", "54"];

/// The same of a row of the ledger, which waits for as long as the trouble is not with the row itself: a missing table or right is not.
pub(crate) fn of_row(error: sqlx::Error) -> StoreError {
    let is_of_data = match &error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            match code.parse::<i32>() {
                Ok(of_sqlite) if code.len() < 5 => SQLITE_OF_DATA.contains(&(of_sqlite & 0xff)),
                _ => POSTGRES_OF_DATA.iter().any(|class| code.starts_with(class)),
            }
        }
        sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_) => true,
        _ => false,
    };
    match from_sqlx(error) {
        StoreError::Refused(message) if !is_of_data => StoreError::Unavailable(message),
        other => other,
    }
}

/// What a failed query means.
pub(crate) fn from_sqlx(error: sqlx::Error) -> StoreError {
    let message = error.to_string();
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            let is_temporary = match code.parse::<i32>() {
                // SQLite's extended codes have the plain one in their low byte. PostgreSQL's have five characters.
                Ok(code_of_sqlite) if code.len() < 5 => {
                    SQLITE_TEMPORARY.contains(&(code_of_sqlite & 0xff))
                }
                _ => POSTGRES_TEMPORARY
                    .iter()
                    .any(|class| code.starts_with(class)),
            };
            if is_temporary {
                StoreError::Unavailable(message)
            } else {
                StoreError::Refused(message)
            }
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt(message),
        sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_) => StoreError::Refused(message),
        _ => StoreError::Unavailable(message),
    }
}

/// A refusal of our own.
pub(crate) fn refused(message: String) -> StoreError {
    StoreError::Refused(message)
}
