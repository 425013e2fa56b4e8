//! A request whose credential Entra ID refuses.

use std::cell::RefCell;

use super::*;

/// Has two secrets, and says which of them were refused.
#[derive(Default)]
struct Two(RefCell<Vec<String>>);

impl world::ClientCredential for Two {
    fn obtain(&self, _: &str) -> Result<Credential, CredentialError> {
        Ok(Credential::Secret(Secret::from("old")))
    }

    fn replacement(&self, audience: &str, refused: &Credential) -> Result<Credential, CredentialError> {
        let Credential::Secret(refused) = refused else { panic!("a secret was refused") };
        self.0.borrow_mut().push(format!("{} at {audience}", refused.reveal()));
        Ok(Credential::Secret(Secret::from("new")))
    }
}

#[test]
fn a_request_whose_credential_is_refused_is_repeated_once_with_the_other_one() {
    for code in [700_024, 700_027, 7_000_215, 7_000_222] {
        let world = World::default();
        let no_such_secret = json!({ "error": "invalid_client", "error_codes": [code] });
        world.once(move |_| Ok(response(401, &no_such_secret)));
        world.once(|_| Ok(response(200, &tokens())));
        let two = Two::default();
        let env = EntraWorld { credential: &two, ..world.entra_remote() };
        let answer = run(refresh::refresh(&env, &Secret::from("refresh-0"), &scopes(), None));
        assert_eq!(answer.unwrap().access_token.reveal(), "access-1", "{code}");
        assert_eq!(two.0.take(), [format!("old at https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token")]);
        let bodies = world.sent_bodies();
        let sent: Vec<_> =
            bodies.iter().map(|body| (body.contains("refresh-0"), body.contains("client_secret=new"))).collect();
        assert_eq!(sent, [(true, false), (true, true)], "{code}");
    }
}

#[test]
fn a_request_is_not_repeated_where_another_credential_does_not_help() {
    // The application is unknown, the code is used up, the other one is refused as well.
    for (code, requests) in [(700_016, 1), (54_005, 1), (700_213, 1), (7_000_215, 2)] {
        let world = answering(401, json!({ "error": "invalid_client", "error_codes": [code] }));
        let two = Two::default();
        let env = EntraWorld { credential: &two, ..world.entra_remote() };
        let answer = run(refresh::refresh(&env, &Secret::from("refresh-0"), &scopes(), None));
        assert!(matches!(answer, Err(OAuthError::Refused(refusal)) if refusal.code == code));
        assert_eq!(world.sent().len(), requests, "{code}");
    }
}

#[test]
fn without_another_credential_the_refusal_stands() {
    let world = answering(401, json!({ "error": "invalid_client", "error_codes": [700_027] }));
    let env = EntraWorld { credential: &Signer, ..world.entra_remote() };
    let answer = run(refresh::refresh(&env, &Secret::from("refresh-0"), &scopes(), None));
    assert!(matches!(answer, Err(OAuthError::Refused(refusal)) if refusal.code == 700_027));
    assert_eq!(world.sent().len(), 1);
}
