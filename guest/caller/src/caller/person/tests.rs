use std::time::Duration;

use base::settings::{LocalSettings, SignInMethod};
use entra::oauth::TokenSet;
use entra::testing::{FakeAuthority, TestKey, header, id_claims, sign, with};
use serde_json::json;
use world::testing;
use world::testing::{TENANT, forever, local_settings, run};

use super::*;
use crate::local::interactive::{Alive, NoClient, Presentation};
use crate::local::{Account, Instruction};
use crate::testing::PersonWorlds as _;

const SCOPE: &str = "https://graph.microsoft.com/User.Read";

fn object(name: &str) -> String {
    let number = if name == "alice" { 1 } else { 2 };
    format!("0000000{number}-aaaa-2222-bbbb-3333cccc4444")
}

fn account(name: &str) -> Account {
    Account {
        home_account_id: format!("{}.{TENANT}", object(name)),
        username: format!("{name}@contoso.example"),
        name: name.to_owned(),
        tenant_id: TENANT.to_owned(),
        object_id: object(name),
    }
}

/// Alice and Bob are signed in; this connection is to use the account of Alice, whose refresh token Entra ID refuses.
fn chose_alice(authority: &FakeAuthority, method: SignInMethod) -> PersonWorld<'static> {
    for name in ["alice", "bob"] {
        let tokens = TokenSet {
            access_token: Secret::new(format!("access of {name}")),
            expires_at: authority.env.clock.now() + if name == "bob" { 3600 } else { 0 },
            refresh_token: Some(Secret::new(format!("refresh of {name}"))),
            id_token: None,
        };
        run(accounts::save(&authority.env, &account(name), &[SCOPE.to_owned()], tokens)).unwrap();
    }
    let ended =
        json!({ "error": "invalid_grant", "error_description": "AADSTS700082: ended", "error_codes": [700_082] });
    authority.world.once(move |_| Ok(testing::json(400, &ended)));
    PersonWorld {
        entra: authority.env,
        settings: forever(LocalSettings { method, timeout: Duration::from_secs(5), ..local_settings() }),
        chosen: Some(forever(account("alice").home_account_id)),
        ..authority.world.person()
    }
}

/// The next sign-in by a code is that of this account.
fn signs_in(authority: &FakeAuthority, name: &str) {
    let code = json!({
        "device_code": "device-1", "user_code": "ABC-DEF", "verification_uri": "https://login.microsoft.com/device",
        "expires_in": 900, "interval": 1,
    });
    let claims = json!({ "nonce": null, "oid": object(name), "preferred_username": format!("{name}@contoso.example") });
    let id_token = sign(&header("RS256", "rsa"), &with(id_claims(""), claims), &TestKey::named("rsa"));
    let tokens = json!({
        "token_type": "Bearer", "access_token": format!("new access of {name}"), "refresh_token": "refresh-2",
        "id_token": id_token, "expires_in": 3600,
    });
    authority.world.once(move |_| Ok(testing::json(200, &code)));
    authority.world.once(move |_| Ok(testing::json(200, &tokens)));
}

fn acquire(person: &PersonWorld<'_>, presenter: &dyn Presenter) -> Result<AccessToken, SignInError> {
    run(PersonCaller::new(person, presenter, None).acquire(&[SCOPE.to_owned()], None))
}

#[test]
fn a_sign_in_as_another_account_than_the_chosen_one_serves_no_call() {
    let authority = FakeAuthority::new();
    let person = chose_alice(&authority, SignInMethod::DeviceCode);
    signs_in(&authority, "bob");
    let error = acquire(&person, &NoClient).unwrap_err();
    assert!(matches!(&error, SignInError::AccountSelection(_)), "{error:?}");
    assert!(error.to_string().contains("alice@contoso.example"), "{error}");
}

#[test]
fn a_sign_in_as_the_chosen_account_serves_the_call() {
    let authority = FakeAuthority::new();
    let person = chose_alice(&authority, SignInMethod::DeviceCode);
    signs_in(&authority, "alice");
    assert_eq!(acquire(&person, &NoClient).unwrap().token.reveal(), "new access of alice");
}

/// A client that shows its user the page.
#[derive(Default)]
struct Showing(RefCell<String>);

#[async_trait(?Send)]
impl Presenter for Showing {
    async fn present(
        &self,
        instruction: &Instruction,
        _: Duration,
        _: &dyn Alive,
    ) -> Result<Presentation, SignInError> {
        self.0.replace(instruction.url.clone());
        Ok(Presentation::ByClient)
    }
    fn waiting(&self, _: &Instruction, _: Duration) {}
    fn ended(&self) {}
}

#[test]
fn the_page_is_for_the_chosen_account() {
    let authority = FakeAuthority::new();
    authority.world.can_listen();
    let person = chose_alice(&authority, SignInMethod::Browser);
    let showing = Showing::default();
    assert!(matches!(acquire(&person, &showing), Err(SignInError::TimedOut(Some(_)))));
    let page = showing.0.take();
    assert!(page.contains("login_hint=alice%40contoso.example"), "{page}");
}
