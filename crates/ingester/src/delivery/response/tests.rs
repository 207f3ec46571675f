//! Tests of the parsed responses.

use super::*;

fn response<'b>(status: u16, content_type: &'b str, body: &'b str) -> RawResponse<'b> {
    RawResponse {
        status,
        content_type: Some(content_type),
        location: None,
        retry_after: None,
        body: body.as_bytes(),
    }
}

fn parse(status: u16, body: &str) -> Result<BatchOutcome, ResponseError> {
    parse_response(&response(status, "application/json", body), 3)
}

/// Parses a problem document of the publisher with these further members.
fn parse_problem(status: u16, members: &str) -> ResponseError {
    let body = format!(r#"{{"type":"urn:affluent:problem:any",{members}}}"#);
    parse_response(
        &response(status, "application/problem+json; charset=utf-8", &body),
        3,
    )
    .unwrap_err()
}

fn is_invalid(status: u16, body: &str) -> bool {
    matches!(parse(status, body), Err(ResponseError::Invalid { .. }))
}

const TWO_ERRORS: &str = r#"{"accepted":1,"rejected":2,"errors":[
    {"index":0,"id":null,"field":"email","reason":"is blank"},{"index":2,"field":null,"reason":"is not an object"}]}"#;

#[test]
fn status_200_with_matching_counts_is_success() {
    let outcome = parse(200, r#"{"accepted":3,"rejected":0}"#).unwrap();
    assert_eq!(
        outcome,
        BatchOutcome {
            accepted: 3,
            rejected: vec![]
        }
    );
}

#[test]
fn inconsistent_200_is_invalid() {
    for body in [
        "",
        "<html>",
        "{}",
        "[]",
        r#"{"accepted":3}"#,
        r#"{"accepted":2,"rejected":0}"#,
        r#"{"accepted":4,"rejected":0}"#,
        r#"{"accepted":"3","rejected":0}"#,
        r#"{"accepted":-3,"rejected":0}"#,
        r#"{"accepted":2,"rejected":1,"errors":[{"index":0,"field":"id","reason":"x"}]}"#,
        r#"{"accepted":18446744073709551615,"rejected":4}"#,
    ] {
        assert!(is_invalid(200, body), "{body}");
    }
}

#[test]
fn status_207_keeps_each_reason() {
    let outcome = parse(207, TWO_ERRORS).unwrap();
    assert_eq!(outcome.accepted, 1);
    let reasons: Vec<_> = outcome
        .rejected
        .iter()
        .map(|one| one.reasons.join("; "))
        .collect();
    assert_eq!(reasons, ["email: is blank", "record: is not an object"]);
}

#[test]
fn all_errors_of_a_record_are_kept_if_they_are_listed() {
    let body = r#"{"accepted":1,"rejected":2,"errors":[
        {"index":0,"id":null,"field":"email","reason":"is blank","errors":[
            {"field":"email","reason":"is blank"},{"field":"phone","reason":"is missing"}]},
        {"index":2,"field":null,"reason":"is not an object","errors":[]}]}"#;
    let outcome = parse(207, body).unwrap();
    let reasons: Vec<_> = outcome
        .rejected
        .iter()
        .map(|one| one.reasons.join("; "))
        .collect();
    assert_eq!(
        reasons,
        ["email: is blank; phone: is missing", "record: is not an object"]
    );
    let many = format!(
        r#"{{"accepted":2,"rejected":1,"errors":[{{"index":1,"reason":"a","errors":[{}]}}]}}"#,
        vec![r#"{"field":"a","reason":"b"}"#; 20].join(",")
    );
    assert_eq!(
        parse(207, &many).unwrap().rejected[0].reasons.len(),
        Invalid::MAX_ERRORS
    );
}

#[test]
fn status_207_with_mismatched_errors_is_invalid() {
    assert!(is_invalid(207, r#"{"accepted":3,"rejected":0,"errors":[]}"#));
    assert!(is_invalid(207, r#"{"accepted":1,"rejected":2}"#));
    assert!(is_invalid(207, &TWO_ERRORS.replace("\"index\":2", "\"index\":0")));
    assert!(is_invalid(207, &TWO_ERRORS.replace("\"index\":2", "\"index\":3")));
}

#[test]
fn status_422_rejects_every_record_with_or_without_counts() {
    let errors = r#"[{"index":0,"reason":"a"},{"index":1,"reason":"b"},{"index":2,"reason":"c"}]"#;
    let bare = parse(422, &format!(r#"{{"title":"invalid","errors":{errors}}}"#)).unwrap();
    let full = parse(
        422,
        &format!(r#"{{"accepted":0,"rejected":3,"errors":{errors}}}"#),
    )
    .unwrap();
    assert_eq!(bare, full);
    assert_eq!((bare.accepted, bare.rejected.len()), (0, 3));
    assert!(is_invalid(422, r#"{"title":"invalid"}"#));
}

#[test]
fn each_problem_document_of_the_publisher_is_classified() {
    const TITLE: &str = r#""title":"no""#;
    for status in [408, 429, 500, 503, 504, 599] {
        let retryable = ResponseError::Retryable {
            status,
            retry_after: None,
        };
        assert_eq!(parse_problem(status, TITLE), retryable);
    }
    assert_eq!(parse_problem(413, TITLE), ResponseError::TooLarge);
    for status in [401, 403] {
        assert_eq!(
            parse_problem(status, TITLE),
            ResponseError::Unauthorized { status }
        );
    }
    for status in [400, 404, 405, 409, 415, 422, 502] {
        let error = parse_problem(status, r#""title":"no","detail":"topic authorization\nfailed""#);
        assert_eq!(
            error.to_string(),
            format!("the publisher responded with {status}: topic authorization failed")
        );
    }
    let listed = parse_problem(
        502,
        r#""title":"refused","errors":[{"index":1,"field":null,"reason":"is too large"}]"#,
    );
    assert_eq!(
        listed.to_string(),
        "the publisher responded with 502: refused: record: is too large"
    );
}

#[test]
fn only_problem_documents_of_the_publisher_are_definite() {
    const HTML: &str = "<html>502 Bad Gateway</html>";
    const OURS: &str = r#"{"type":"urn:affluent:problem:kafka-refused","title":"refused"}"#;
    const THEIRS: &str = r#"{"type":"about:blank","title":"Forbidden"}"#;
    let problem = "application/problem+json";
    for status in [
        200, 201, 204, 207, 302, 400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 502, 503, 504, 530,
    ] {
        for (content_type, body) in [
            ("text/html", HTML),
            ("text/html", OURS),
            (problem, HTML),
            (problem, THEIRS),
            (problem, "{}"),
            ("text/plain", ""),
        ] {
            let error = parse_response(&response(status, content_type, body), 3).unwrap_err();
            assert!(
                matches!(&error, ResponseError::Foreign { status: found, .. } if *found == status),
                "{status} {content_type} {body}: {error}"
            );
        }
    }
    let json = parse_response(&response(502, "application/json", OURS), 3).unwrap_err();
    assert!(matches!(json, ResponseError::Foreign { .. }), "{json}");
}

#[test]
fn foreign_response_names_its_type_or_its_redirect() {
    let error = |response: &RawResponse<'_>| parse_response(response, 3).unwrap_err().to_string();
    let html = response(502, "text/html", "");
    let sender = "from a gateway or another server, not from the publisher";
    assert_eq!(error(&html), format!("received 502 {sender}: text/html"));
    let redirect = RawResponse {
        status: 301,
        location: Some("https://a/v1/users\n"),
        ..html
    };
    let redirect = error(&redirect);
    assert_eq!(
        redirect,
        format!("received 301 {sender}: redirect to https://a/v1/users ")
    );
    let bare = RawResponse {
        content_type: None,
        ..html
    };
    assert_eq!(error(&bare), format!("received 502 {sender}"));
}

#[test]
fn requested_wait_is_kept() {
    let wait = Some(Duration::from_secs(4));
    let body = r#"{"type":"urn:affluent:problem:overloaded"}"#;
    for content_type in ["application/problem+json", "text/html"] {
        let response = RawResponse {
            retry_after: wait,
            ..response(503, content_type, body)
        };
        let error = parse_response(&response, 3).unwrap_err();
        let (ResponseError::Retryable { retry_after, .. } | ResponseError::Foreign { retry_after, .. }) =
            error
        else {
            panic!("{error}")
        };
        assert_eq!(retry_after, wait);
    }
}

#[test]
fn reason_is_short_and_printable() {
    let long = TWO_ERRORS.replace("is blank", &"x\\n".repeat(500));
    let outcome = parse(207, &long).unwrap();
    assert_eq!(outcome.rejected[0].reasons[0].chars().count(), 120);
    assert!(!outcome.rejected[0].reasons[0].contains('\n'));
}
