//! Files that hold what must come out.

use std::fs;
use std::path::Path;

/// What is wrong with a file, if anything. `UPDATE_GOLDEN=1` writes it instead.
pub fn compare(path: &Path, actual: &str) -> Option<String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let is_there = fs::read_to_string(path).is_ok_and(|known| known == actual);
        if !is_there {
            fs::write(path, actual).expect("the case's folder can be written");
        }
        return None;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    let path = path.display();
    (expected != actual).then(|| format!("{path} should be\n{expected}\nbut is\n{actual}"))
}
