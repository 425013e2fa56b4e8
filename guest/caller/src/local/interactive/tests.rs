//! What a slow or odd Entra ID does to a sign-in by code, and calls that take a sign-in over.

use std::time::Duration;

use base::settings::LocalSettings;
use entra::testing::{EntraWorlds as _, FakeAuthority, TestKey, header, id_claims, sign, with};
use serde_json::{Value, json};
use world::http_error::NotConnected;
use world::testing::{World, local_settings, run};
use world::{HttpError, testing};

use super::*;
use crate::testing::PersonWorlds as _;

fn code(interval: u64) -> Value {
    json!({
        "device_code": "device-1",
        "user_code": "ABC-DEF",
        "verification_uri": "https://login.microsoft.com/device",
        "expires_in": 900,
        "interval": interval,
    })
}

fn tokens() -> Value {
    let id_token =
        sign(&header("RS256", "rsa"), &with(id_claims(""), json!({ "nonce": null })), &TestKey::named("rsa"));
    json!({
        "token_type": "Bearer",
        "access_token": "access-1",
        "refresh_token": "refresh-1",
        "id_token": id_token,
        "expires_in": 3600,
    })
}

fn pending() -> Value {
    json!({ "error": "authorization_pending", "error_description": "AADSTS70016: pending" })
}

fn sign_in(authority: &FakeAuthority) -> Result<Account, SignInError> {
    let settings = LocalSettings { method: SignInMethod::DeviceCode, ..local_settings() };
    let person = PersonWorld { entra: authority.env, settings: &settings, ..authority.world.person() };
    let request = SignInRequest { scopes: vec!["s".to_owned()], ..SignInRequest::default() };
    run(super::sign_in(&person, &request, &NoClient))
}

/// Answers the second poll after `delay`, while another call looks for its turn. Returns the account, and whether
/// the other call got the lead.
fn slow_poll(delay: Duration) -> (Result<Account, SignInError>, World, bool) {
    let authority = FakeAuthority::new();
    let world = authority.world.clone();
    let took_over = std::rc::Rc::new(Cell::new(false));
    world.once(|_| Ok(testing::json(200, &code(5))));
    world.once(|_| Ok(testing::json(400, &pending())));
    let (slow, taken) = (world.clone(), std::rc::Rc::clone(&took_over));
    world.once(move |_| {
        slow.advance(delay);
        let turn = run(attempt::take_turn(&slow.entra(), "another call")).unwrap();
        taken.set(!matches!(turn, SignInTurn::Join));
        Ok(testing::json(200, &tokens()))
    });
    let account = sign_in(&authority);
    (account, world, took_over.get())
}

#[test]
fn a_poll_that_entra_answers_slowly_is_no_sign_of_death() {
    let (account, _, took_over) = slow_poll(Duration::from_secs(30));
    assert!(account.is_ok() && !took_over);
}

#[test]
fn tokens_that_have_come_are_kept_even_if_another_call_has_taken_over() {
    let (account, world, took_over) = slow_poll(Duration::from_secs(120));
    assert!(took_over, "two minutes without a sign of life");
    assert_eq!(run(accounts::list(&world.entra().records)).unwrap(), [account.unwrap()]);
}

#[test]
fn the_wait_ends_in_time_whatever_the_interval() {
    let authority = FakeAuthority::new();
    authority.world.once(|_| Ok(testing::json(200, &code(u64::MAX))));
    authority.world.always(|_| Ok(testing::json(400, &pending())));
    assert!(matches!(sign_in(&authority), Err(SignInError::TimedOut(Some(_)))));
    let timeout = local_settings().timeout;
    assert!(authority.world.elapsed() <= timeout + Duration::from_secs(2), "{:?}", authority.world.elapsed());
}

#[test]
fn polls_are_a_second_apart_at_least() {
    let authority = FakeAuthority::new();
    authority.world.once(|_| Ok(testing::json(200, &code(0))));
    authority.world.always(|_| Ok(testing::json(400, &pending())));
    assert!(matches!(sign_in(&authority), Err(SignInError::TimedOut(Some(_)))));
    assert!(authority.world.sent().len() <= 303, "{}", authority.world.sent().len());
}

#[test]
fn a_call_that_has_lost_the_lead_waits_for_the_one_that_has_it() {
    let authority = FakeAuthority::new();
    let world = authority.world.clone();
    world.once(|_| Ok(testing::json(200, &code(5))));
    let asleep = world.clone();
    world.once(move |_| {
        asleep.advance(Duration::from_secs(120));
        assert!(matches!(run(attempt::take_turn(&asleep.entra(), "another call")), Ok(SignInTurn::Resume(_))));
        Ok(testing::json(400, &pending()))
    });
    // The other call dies, so this one takes its turn again and goes on with the same code.
    world.once(|_| Ok(testing::json(200, &tokens())));
    assert!(sign_in(&authority).is_ok());
    assert_eq!(authority.requests("/devicecode"), 1);
}

#[test]
fn a_sign_in_that_another_call_leads_by_now_is_not_shown() {
    let authority = FakeAuthority::new();
    let world = authority.world.clone();
    let asleep = world.clone();
    world.once(move |_| {
        asleep.advance(Duration::from_secs(120));
        assert!(matches!(run(attempt::take_turn(&asleep.entra(), "another call")), Ok(SignInTurn::Lead)));
        Ok(testing::json(200, &code(5)))
    });
    // The other call dies before it has asked for a code of its own.
    world.once(|_| Ok(testing::json(200, &code(5))));
    world.once(|_| Ok(testing::json(200, &tokens())));
    assert!(sign_in(&authority).is_ok());
    assert_eq!(world.prompts().len(), 1);
}

#[test]
fn a_leader_of_the_future_is_taken_for_gone() {
    let world = World::default();
    let env = world.entra();
    world.advance(Duration::from_secs(7200));
    assert!(matches!(run(attempt::take_turn(&env, "dead call")), Ok(SignInTurn::Lead)));
    world.set_back(Duration::from_secs(3600));
    assert!(matches!(run(attempt::take_turn(&env, "me")), Ok(SignInTurn::Lead)));
}

/// A client that shows its user the page, and remembers what it was told to show meanwhile.
#[derive(Default)]
struct Showing {
    shown: std::cell::RefCell<Vec<String>>,
}

#[async_trait(?Send)]
impl Presenter for Showing {
    async fn present(&self, _: &Instruction, _: Duration, _: &dyn Alive) -> Result<Presentation, SignInError> {
        Ok(Presentation::ByClient)
    }
    fn waiting(&self, instruction: &Instruction, _: Duration) {
        self.shown.borrow_mut().push(instruction.url.clone());
    }
    fn ended(&self) {}
}

fn sign_in_by_browser(authority: &FakeAuthority, presenter: &dyn Presenter) -> Result<Account, SignInError> {
    authority.world.can_listen();
    let settings = local_settings();
    let person = PersonWorld { entra: authority.env, settings: &settings, ..authority.world.person() };
    let request = SignInRequest { scopes: vec!["s".to_owned()], ..SignInRequest::default() };
    run(super::sign_in(&person, &request, presenter))
}

#[test]
fn a_tenant_that_does_not_exist_is_named_before_a_browser_is_opened() {
    let authority = FakeAuthority::new();
    let unknown = json!({ "error": "invalid_tenant", "error_description": "AADSTS90002: Tenant not found." });
    authority.publish("/v2.0/.well-known/openid-configuration", testing::json(400, &unknown));
    let error = sign_in_by_browser(&authority, &Showing::default()).unwrap_err();
    assert!(matches!(&error, SignInError::Misconfigured { refusal, .. } if refusal.code == 90002), "{error:?}");
    for id in [testing::TENANT, testing::CLIENT] {
        assert!(error.to_string().contains(id), "{error}");
        assert!(page(&Err(error.clone())).message.contains(id));
    }
    assert_eq!((error.reason().as_str(), authority.world.elapsed()), ("aadsts-90002", Duration::ZERO));
}

#[test]
fn without_a_network_no_page_is_shown_and_a_sentence_says_why() {
    let authority = FakeAuthority::new();
    *authority.outage.borrow_mut() = Some(HttpError::Connect(NotConnected::NameNotFound));
    let showing = Showing::default();
    let error = sign_in_by_browser(&authority, &showing).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Microsoft Entra ID cannot be reached: its name was not found; check the network connection and the DNS settings \
         of this machine"
    );
    assert_eq!(showing.shown.take(), [""; 0]);
}

#[test]
fn an_id_token_of_a_later_time_tells_that_the_clock_is_wrong() {
    let authority = FakeAuthority::new();
    authority.world.once(|_| Ok(testing::json(200, &code(5))));
    let later = with(id_claims(""), json!({ "nonce": null, "nbf": testing::START + 400, "iat": testing::START + 400 }));
    let id_token = sign(&header("RS256", "rsa"), &later, &TestKey::named("rsa"));
    let mut answer = testing::json(200, &with(tokens(), json!({ "id_token": id_token })));
    answer.headers_mut().insert("date", "Thu, 01 Jan 2026 00:06:40 GMT".parse().unwrap());
    authority.world.once(move |_| Ok(answer.clone()));
    let error = sign_in(&authority).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the sign-in was not accepted: the ID token is not valid now, because this machine's clock is 400 s behind that of \
         Microsoft Entra ID; correct the date and time of this machine"
    );
    assert_eq!(error.reason(), "id-token-not-yet-valid");
}

#[test]
fn a_block_by_conditional_access_is_not_called_declined() {
    let authority = FakeAuthority::new();
    authority.world.once(|_| Ok(testing::json(200, &code(5))));
    let blocked = json!({ "error": "access_denied", "error_codes": [53003] });
    authority.world.once(move |_| Ok(testing::json(400, &blocked)));
    let error = sign_in(&authority).unwrap_err();
    let said = "Conditional access blocks this sign-in: ask an administrator which policy applies. (AADSTS53003)";
    assert_eq!((error.to_string().as_str(), error.reason().as_str()), (said, "aadsts-53003"));
    assert!(page(&Err(error)).message.starts_with(said));
    let reasons: Vec<_> = authority.world.audited().into_iter().filter_map(|event| event.reason).collect();
    assert_eq!(reasons, ["aadsts-53003"]);
}

#[test]
fn what_the_page_says_is_a_sentence() {
    let message = page(&Err(SignInError::Declined)).message;
    assert_eq!(message, "The sign-in was declined. Go back to your application to try again.");
}

#[test]
fn a_code_that_another_process_left_behind_is_not_shown_where_a_browser_can_be_opened() {
    let authority = FakeAuthority::new();
    authority.publish("/devicecode", testing::json(200, &code(5)));
    authority.publish("/token", testing::json(400, &pending()));
    let settings = LocalSettings { timeout: Duration::from_secs(2), ..local_settings() };
    let person = PersonWorld { entra: authority.env, settings: &settings, ..authority.world.person() };
    let request = SignInRequest { scopes: vec!["s".to_owned()], ..SignInRequest::default() };
    let Err(SignInError::TimedOut(Some(left))) = run(super::sign_in(&person, &request, &Showing::default())) else {
        panic!("no browser, so a code");
    };
    assert!(left.user_code.is_some());
    let Err(SignInError::TimedOut(Some(shown))) = sign_in_by_browser(&authority, &Showing::default()) else { panic!() };
    assert_eq!(shown.user_code, None);
}

/// What a call that leads a sign-in by the browser leaves behind when its process is killed.
fn left_behind(authority: &FakeAuthority) -> SignInAttempt {
    let env = &authority.env;
    authority.world.can_listen();
    let listener = authority.world.listen().unwrap().detach(attempt::BROWSER_LIFETIME);
    assert!(matches!(run(attempt::take_turn(env, "other")), Ok(SignInTurn::Lead)));
    let request = AuthorizationRequest::new(env.random, "http://localhost:49152".to_owned(), Vec::new(), None);
    let attempt = SignInAttempt {
        id: "left".to_owned(),
        instruction: Instruction { url: "https://left.behind.example".to_owned(), user_code: None },
        grant: SignInGrant::AuthorizationCode { request, listener: Some(listener) },
        scopes: Vec::new(),
        expires_at: env.clock.now() + 600,
    };
    run(attempt.save(&env.records)).unwrap();
    assert!(run(attempt::as_leader(&env.records, "other", |current| current.attempt = "left".to_owned())).unwrap());
    attempt
}

#[test]
fn the_page_of_a_process_that_was_killed_is_shown_to_no_other_client() {
    let authority = FakeAuthority::new();
    left_behind(&authority);
    // Its listener went with it.
    authority.world.attach("listener-1").map(drop).unwrap();
    let showing = Showing::default();
    assert!(matches!(sign_in_by_browser(&authority, &showing), Err(SignInError::TimedOut(Some(_)))));
    let shown = showing.shown.take();
    assert!(
        !shown.is_empty() && shown.iter().all(|url| url.starts_with("https://login.microsoftonline.com/")),
        "{shown:?}"
    );
}

#[test]
fn a_process_that_ends_gives_its_sign_in_up_and_that_of_no_other_process() {
    let authority = FakeAuthority::new();
    left_behind(&authority);
    let world = &authority.world;
    let person = PersonWorld { entra: authority.env, ..world.person() };
    run(give_up(&person)).unwrap();
    assert!(matches!(run(attempt::take_turn(&authority.env, "next")), Ok(SignInTurn::Lead)), "at once");

    let authority = FakeAuthority::new();
    left_behind(&authority);
    authority.world.attach("listener-1").map(drop).unwrap();
    let person = PersonWorld { entra: authority.env, ..authority.world.person() };
    run(give_up(&person)).unwrap();
    assert!(matches!(run(attempt::take_turn(&authority.env, "next")), Ok(SignInTurn::Join)), "the other one may live");
}
