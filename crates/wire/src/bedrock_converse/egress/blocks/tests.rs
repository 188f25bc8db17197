//! Names of documents and ids of calls, made to fit.

use super::*;

#[test]
fn names_of_documents_are_made_to_fit() {
    for (wanted, name) in [
        ("report.pdf", "report"),
        ("Q3_report (final).v2.docx", "Q3 report (final) v2"),
        ("../../etc/passwd", "etc passwd"),
        ("a   b", "a b"),
        ("Übersicht.txt", "bersicht"),
        (".txt", "txt"),
        ("日本.pdf", "document"),
        ("", "document"),
    ] {
        assert_eq!(document_name(wanted), name, "{wanted}");
    }
    assert!(document_name(&"x".repeat(900)).len() <= LONGEST_NAME);
}

#[test]
fn long_ids_are_cut_and_stay_apart() {
    assert_eq!(short("call_1"), "call_1");
    let (one, other) = ("x".repeat(80) + "1", "x".repeat(80) + "2");
    assert_eq!(short(&one).len(), LONGEST_ID);
    assert_ne!(short(&one), short(&other));
}
