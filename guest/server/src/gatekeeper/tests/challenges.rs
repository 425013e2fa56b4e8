//! A server behind that was refused a token of its caller: what only the client can bring is asked of the client.

use entra::testing::user_claims;
use world::provided_tools::{DelegationError, DelegationErrorCategory as Category};

use super::*;

const WANTED: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;

/// The head of an answer whose server was refused a token for this reason.
fn refused(status: u16, category: Category, code: &str, claims: Option<&str>) -> AnswerHead {
    let refusal = DelegationError {
        category,
        code: code.to_owned(),
        message: "What to do.".to_owned(),
        claims: claims.map(str::to_owned),
        retry_after: None,
    };
    AnswerHead { status, latency_us: 7, session_id: None, refusal: Some(refusal) }
}

impl Lab {
    fn instead(&self, by: &Secret<String>, head: &AnswerHead) -> Response<Vec<u8>> {
        let grant = self.grant(with(self.call(by, "list"), "origin", "https://app.example.com"));
        run(answered(&self.later(), grant.handle.reveal(), head)).unwrap_err()
    }

    /// Outcome and reason of the latest record.
    fn recorded(&self) -> (base::audit::Outcome, Option<String>) {
        let event = self.world().audited().into_iter().rfind(|event| event.name == "tool.called").unwrap();
        (event.outcome, event.reason)
    }

    fn token_of_alice(&self) -> Secret<String> {
        self.sign(&entra::testing::with(user_claims(), json!({ "scp": "access_as_user" })))
    }
}

#[test]
fn a_client_with_a_token_gets_the_claims_in_place_of_the_answer() {
    let lab = Lab::open();
    for (status, code) in [(200, "interaction-required"), (500, "claims-challenge"), (0, "interaction-required")] {
        let head = refused(status, Category::NeedsPerson, code, Some(WANTED));
        let answer = lab.instead(&lab.token_of_alice(), &head);
        assert_eq!(answer.status(), 401, "{status}");
        let challenge = field(answer.headers(), "www-authenticate");
        assert!(challenge.starts_with("Bearer error=\"insufficient_claims\""), "{challenge}");
        let claims = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, WANTED);
        assert!(challenge.contains(&format!("claims=\"{claims}\"")), "{challenge}");
        assert!(challenge.contains("/.well-known/oauth-protected-resource/crm/mcp\""), "{challenge}");
        assert_eq!(field(answer.headers(), "access-control-allow-origin"), "https://app.example.com");
        assert_eq!(lab.recorded(), (base::audit::Outcome::Failure, Some(code.to_owned())));
    }
}

#[test]
fn a_session_signs_in_once_more_with_the_claims_or_anew_if_it_has_ended() {
    let lab = Lab::open();
    for (code, status, error) in [
        ("step-up-required", 403, "insufficient_scope"),
        ("claims-challenge", 403, "insufficient_scope"),
        ("session-ended", 401, "invalid_token"),
    ] {
        let answer = lab.instead(&lab.alice, &refused(200, Category::NeedsPerson, code, Some(WANTED)));
        assert_eq!(answer.status(), status, "{code}");
        let challenge = field(answer.headers(), "www-authenticate");
        assert!(challenge.starts_with(&format!("Bearer error=\"{error}\"")), "{challenge}");
        assert!(!challenge.contains("claims="), "{challenge}");
        assert_eq!(lab.recorded(), (base::audit::Outcome::Failure, Some(code.to_owned())));
    }
    let owner =
        Owner { client_id: "client".to_owned(), tenant_id: TENANT.to_owned(), object_id: "alice-object".to_owned() };
    let wanted = run(caller::session::claims::wanted(&lab.env.entra, &owner)).unwrap();
    assert_eq!(wanted.as_deref(), Some(WANTED), "the next sign-in brings them");
}

#[test]
fn a_session_that_has_ended_meanwhile_signs_in_anew() {
    let lab = Lab::open();
    let grant = lab.grant(lab.call(&lab.alice, "list"));
    super::answers::end_sessions(&lab);
    let head = refused(200, Category::NeedsPerson, "step-up-required", None);
    assert_eq!(run(answered(&lab.later(), grant.handle.reveal(), &head)).unwrap_err().status(), 401);
}

#[test]
fn what_the_client_cannot_help_is_for_the_server_behind_to_say() {
    let lab = Lab::open();
    for (category, code) in [
        (Category::Refused, "aadsts-65001"),
        (Category::NotGranted, "not-granted"),
        (Category::Unavailable, "entra-unavailable"),
        (Category::HandleInvalid, "handle-invalid"),
    ] {
        let grant = lab.grant(lab.call(&lab.alice, "list"));
        run(answered(&lab.later(), grant.handle.reveal(), &refused(200, category, code, None))).unwrap();
        assert_eq!(lab.recorded(), (base::audit::Outcome::Success, None));
        // Without an answer of its own, the reason is more useful than none.
        let answer = lab.instead(&lab.alice, &refused(0, category, code, None));
        assert_eq!(answer.status(), if category == Category::Unavailable { 503 } else { 502 });
        assert!(String::from_utf8_lossy(answer.body()).contains("What to do."));
        assert_eq!(lab.recorded(), (base::audit::Outcome::Failure, Some(code.to_owned())));
    }
}

#[test]
fn a_caller_that_caused_too_many_requests_is_told_when_to_come_back() {
    let lab = Lab::open();
    let mut head = refused(200, Category::Unavailable, "graph-too-many", None);
    head.refusal.as_mut().unwrap().retry_after = Some(9);
    let answer = lab.instead(&lab.alice, &head);
    assert_eq!((answer.status().as_u16(), field(answer.headers(), "retry-after")), (429, "9"));
}
