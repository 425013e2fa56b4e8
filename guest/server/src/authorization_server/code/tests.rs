//! A code and the moments at which it can be presented.

use std::rc::Rc;

use world::testing::{World, run};

use super::*;
use crate::testing::ServerWorlds as _;

const VERIFIER_OF_CLIENT: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn grant() -> CodeGrant {
    CodeGrant {
        owner: Owner { client_id: "client".to_owned(), tenant_id: "tenant".to_owned(), object_id: "object".to_owned() },
        redirect_uri: Some("https://app.example.com/callback".to_owned()),
        code_challenge: digest(VERIFIER_OF_CLIENT.as_bytes()),
        resource: "https://mcp.example.com/mcp".to_owned(),
        scopes: vec!["User.Read".to_owned()],
        tokens: EntraTokens {
            access_token: Secret::from("a"),
            expires_at: 0,
            refresh_token: None,
            membership: Default::default(),
        },
        username: None,
        expires_at: 0,
    }
}

struct Given {
    world: World,
    env: Rc<ServerWorld<'static>>,
    code: Secret<String>,
}

fn given() -> Given {
    let world = World::default();
    let env = Rc::new(world.remote());
    let code = run(give(&env, grant())).unwrap();
    Given { world, env, code }
}

impl Given {
    fn presentation<'a>(&'a self, client_id: &'a str) -> PresentedWith<'a> {
        let redirect_uri = Some("https://app.example.com/callback");
        PresentedWith { code: self.code.reveal(), client_id, redirect_uri, verifier: VERIFIER_OF_CLIENT }
    }

    /// What `client_id` sees: `good`, `unknown`, why it is refused, or the session that the code became.
    fn seen_by(&self, client_id: &str) -> String {
        self.seen_with(self.presentation(client_id))
    }

    fn seen_with(&self, presentation: PresentedWith<'_>) -> String {
        match run(present(&self.env, presentation)).unwrap() {
            PresentedCode::Good(_) => "good".to_owned(),
            PresentedCode::Unknown => "unknown".to_owned(),
            PresentedCode::Refused { owner, reason } => {
                assert_eq!(owner, grant().owner);
                reason.to_owned()
            }
            PresentedCode::Replayed { session, owner } => {
                assert_eq!(owner, grant().owner);
                session
            }
        }
    }

    /// What a caller sees that knows the code and the client, and not the rest.
    fn seen_by_thieves(&self) -> [String; 3] {
        let good = self.presentation("client");
        let other = "x".repeat(43);
        [
            PresentedWith { verifier: &other, ..good },
            PresentedWith { redirect_uri: Some("https://app.example.com/other"), ..good },
            PresentedWith { redirect_uri: None, ..good },
        ]
        .map(|presentation| self.seen_with(presentation))
    }

    fn good(&self) -> GoodCode {
        match run(present(&self.env, self.presentation("client"))).unwrap() {
            PresentedCode::Good(code) => *code,
            _ => panic!("the code is not good"),
        }
    }
}

const REFUSED: [&str; 3] = ["wrong-verifier", "other-redirect-uri", "other-redirect-uri"];

/// In every state of the code: a caller without the verifier neither uses it, nor uses it up, nor ends what it gave.
#[test]
fn a_code_without_what_it_is_bound_to_changes_nothing() {
    let given = given();
    assert_eq!(given.seen_by_thieves(), REFUSED);
    let mut code = given.good();
    assert_eq!(run(code.claim(&given.env)), Ok(true));
    assert_eq!(given.seen_by_thieves(), REFUSED);
    assert_eq!(run(code.became(&given.env, "session")), Ok(true), "the use was not disturbed");
    assert_eq!(given.seen_by_thieves(), REFUSED);
    assert_eq!(given.seen_by("client"), "session", "the right ones are a second use");
}

/// It did not note what the code was bound to.
#[test]
fn a_code_that_an_earlier_version_has_seen_used_is_replayed_by_its_client_only() {
    let given = given();
    let name = given.env.entra.records.raw_key_of(&CODES, given.code.reveal());
    let owner = serde_json::to_value(grant().owner).unwrap();
    let used = serde_json::json!({ "Used": { "session": "session", "owner": owner } });
    given.world.put(&name, used.to_string().as_bytes(), None).unwrap();
    assert_eq!(given.seen_by_thieves(), ["session"; 3]);
    assert_eq!(given.seen_by("another"), "other-client");
}

#[test]
fn a_code_is_claimed_once() {
    let given = given();
    let (mut one, mut other) = (given.good(), given.good());
    assert_eq!((run(one.claim(&given.env)), run(other.claim(&given.env))), (Ok(true), Ok(false)));
    assert_eq!(run(one.became(&given.env, "session")), Ok(true));
    assert_eq!((given.seen_by("client").as_str(), given.seen_by("another").as_str()), ("session", "other-client"));
}

#[test]
fn a_code_that_comes_again_while_it_is_used_becomes_nothing() {
    let given = given();
    let mut code = given.good();
    assert_eq!(run(code.claim(&given.env)), Ok(true));
    assert_eq!(given.seen_by("client"), "unknown");
    assert_eq!(run(code.became(&given.env, "session")), Ok(false));
    run(code.restore(&given.env));
    assert_eq!(given.seen_by("client"), "unknown", "it is not made good again either");
}

#[test]
fn another_client_changes_nothing_while_it_is_used() {
    let given = given();
    let mut code = given.good();
    assert_eq!(run(code.claim(&given.env)), Ok(true));
    assert_eq!(given.seen_by("another"), "other-client");
    assert_eq!(run(code.became(&given.env, "session")), Ok(true));
}

#[test]
fn a_code_whose_use_ends_while_it_is_looked_at_is_seen_as_used() {
    let given = given();
    let mut code = given.good();
    assert_eq!(run(code.claim(&given.env)), Ok(true));
    let env = Rc::clone(&given.env);
    // Between reading the record and marking it.
    given.world.interrupt_store(1, move || assert_eq!(run(code.became(&env, "session")), Ok(true)));
    assert_eq!(given.seen_by("client"), "session");
}

#[test]
fn a_code_of_which_nothing_came_is_good_again_for_the_rest_of_its_time() {
    let given = given();
    let mut code = given.good();
    assert_eq!(run(code.claim(&given.env)), Ok(true));
    given.world.advance(Duration::from_secs(30));
    run(code.restore(&given.env));
    assert_eq!(given.seen_by("client"), "good");
    given.world.advance(Duration::from_secs(30));
    assert_eq!(given.seen_by("client"), "unknown");
}

#[test]
fn a_use_is_remembered_longer_than_the_code_lives() {
    let given = given();
    let mut code = given.good();
    assert_eq!(run(code.claim(&given.env)), Ok(true));
    assert_eq!(run(code.became(&given.env, "session")), Ok(true));
    given.world.advance(Duration::from_secs(599));
    assert_eq!(given.seen_by("client"), "session");
}

#[test]
fn neither_the_code_nor_the_entra_tokens_stand_in_the_name_of_the_record() {
    let given = given();
    assert!(given.world.record_names().iter().all(|name| !name.contains(given.code.reveal().as_str())));
}
