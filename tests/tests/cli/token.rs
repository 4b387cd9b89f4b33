//! The token that the command line sends: to whom, and in which words.

use serde_json::json;

use super::*;

const TOKEN: &str = "sifleet_7_0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn no_token_goes_over_the_network_in_the_clear() {
    for url in ["http://192.0.2.1:7440", "http://head01.invalid:7440"] {
        let output =
            sifleet().env("SIFLEET_URL", url).env("SIFLEET_TOKEN", TOKEN).args(["node", "ls"]).output();
        let output = output.unwrap();
        assert_eq!(code(&output), 2, "{}", err(&output));
        assert!(err(&output).contains("the token is not sent to http://"), "{}", err(&output));
        assert!(!err(&output).contains(TOKEN));
    }
}

#[test]
fn a_token_is_no_argument() {
    let output = run("http://127.0.0.1:1", &["node", "ls", "--token", TOKEN]);
    assert_eq!(code(&output), 2);
}

#[test]
fn a_secret_is_the_first_line_and_the_only_one_where_names_are_wanted() {
    let stub = Stub::http_with_body(|asked, body| {
        assert_eq!(asked, "POST /v1/tokens");
        let wanted = json!({"role": "operator", "name": "slurm prolog", "ttl_s": 2_592_000});
        assert_eq!(serde_json::from_slice::<Value>(body).unwrap(), wanted);
        let token = json!({"id": "t-000007", "name": "slurm prolog", "role": "operator", "state": "good",
            "created": "2026-03-01T12:00:00Z", "expires": "2026-03-31T12:00:00Z", "last_used": null, "revoked": null});
        Reply::json(&json!({"token": token, "secret": TOKEN}).to_string())
    });
    let create = ["token", "create", "--role", "operator", "--name", "slurm prolog", "--ttl", "30d"];
    let shown = run(&stub.url(), &create);
    assert_eq!(out(&shown).lines().next(), Some(TOKEN), "{}", err(&shown));
    assert!(err(&shown).contains("shown this one time"), "{}", err(&shown));
    let named = run(&stub.url(), &[&create[..], &["-o", "name"]].concat());
    assert_eq!(out(&named), format!("{TOKEN}\n"));
}
