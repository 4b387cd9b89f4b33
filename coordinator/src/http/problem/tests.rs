//! The error table against its documentation, and what outsiders may see of a failure.

use std::collections::BTreeSet;

use axum::http::StatusCode;

use super::*;

#[test]
fn codes_are_distinct_and_written_alike() {
    let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.row().code).collect();
    assert_eq!(codes.len(), Code::ALL.len());
    for code in codes {
        assert!(code.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{code}");
    }
    assert!(Code::ALL.is_sorted_by_key(|code| code.row().status.as_u16()));
    assert!(Code::ALL.iter().all(|code| code.row().status.as_u16() >= 400));
}

#[test]
fn the_table_of_the_documentation_is_this_table() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/http-api.md");
    let page = std::fs::read_to_string(page).unwrap();
    let documented: Vec<_> =
        page.lines().filter(|line| line.starts_with("| 4") || line.starts_with("| 5")).collect();
    let table: Vec<_> = Code::ALL
        .iter()
        .map(|code| code.row())
        .map(|row| format!("| {} | `{}` | {} | {} |", row.status.as_u16(), row.code, row.title, row.hint))
        .collect();
    assert_eq!(documented, table, "docs/http-api.md should list:\n{}\n", table.join("\n"));
}

#[test]
fn an_internal_failure_tells_only_the_request_id() {
    for failed in [
        ApiError::Panicked { detail: "secret".to_owned() },
        ApiError::Encode { detail: "secret".to_owned() },
        ApiError::Store(StoreError::InUse { path: "/secret".into() }),
        ApiError::Foreign { status: 418 },
    ] {
        let problem = failed.problem(Some("id-1"));
        assert_eq!(
            (problem.status, problem.code.as_str(), problem.detail.as_str()),
            (500, "internal", "internal")
        );
        assert_eq!(problem.request_id.as_deref(), Some("id-1"));
        assert!(!serde_json::to_string(&problem).unwrap().contains("secret"));
    }
}

fn check(error: QueryError, status: u16, code: &str, detail: &str) {
    let problem = ApiError::from(error).problem(None);
    assert_eq!((problem.status, problem.code.as_str(), problem.detail.as_str()), (status, code, detail));
}

#[test]
fn what_the_view_cannot_answer_has_its_own_codes() {
    let (reference, candidates) = ("vnc".to_owned(), vec!["vnc_desktop.sif".to_owned()]);
    let (name, none) = ("viz".to_owned(), Vec::new());
    let unknown = QueryError::UnknownImage { reference: reference.clone(), candidates: candidates.clone() };
    assert_eq!(ApiError::from(unknown.clone()).problem(None).candidates, candidates);
    check(unknown, 404, "unknown_image", "no node ever reported an image \"vnc\"");
    let ambiguous = QueryError::Ambiguous { reference: reference.clone(), candidates: candidates.clone() };
    assert_eq!(ApiError::from(ambiguous.clone()).problem(None).candidates, candidates);
    check(ambiguous, 409, "ambiguous_image", "\"vnc\" means several images");
    let bad = QueryError::BadReference { reference, why: "it is odd".to_owned() };
    check(bad, 400, "bad_image", "\"vnc\" cannot name an image: it is odd");
    let partition = QueryError::UnknownPartition { name: name.clone(), candidates: none.clone() };
    check(partition, 404, "unknown_partition", "no partition is called \"viz\"");
    let node = QueryError::UnknownNode { name, candidates: none };
    check(node, 404, "unknown_node", "no node is called \"viz\"");
}

#[test]
fn candidates_are_bounded() {
    let candidates = (0..1_000).map(|n| n.to_string()).collect();
    let error = ApiError::from(QueryError::Ambiguous { reference: String::new(), candidates });
    assert_eq!(error.problem(None).candidates.len(), MAX_CANDIDATES);
}

#[test]
fn an_error_carries_its_status_and_waits_for_its_body() {
    let response = ApiError::SlowBody { seconds: 5 }.into_response();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    let Pending(error) = response.extensions().get::<Pending>().unwrap();
    assert_eq!(error.to_string(), "the body did not arrive within 5 s");
}
