use http::Method;
use world::testing::{World, http_settings, run};

use super::*;
use crate::authorization_server::testing::{request, with_cookies};
use crate::testing::{ServerWorlds as _, configure};

fn user() -> RememberedUser {
    RememberedUser { tenant_id: "tenant".to_owned(), object_id: "alice".to_owned() }
}

/// A browser that has no cookie yet.
fn new_browser<'e>(env: &'e ServerWorld<'e>) -> Browser<'e> {
    run(Browser::of(env, &request(Method::GET, "/authorize"))).unwrap()
}

/// What a browser sends back of `Set-Cookie`.
fn cookie(browser: &Browser<'_>) -> String {
    let header = run(browser.set_cookie_header()).unwrap();
    header.to_str().unwrap().split(';').next().unwrap().to_owned()
}

fn recognised<'e>(env: &'e ServerWorld<'e>, cookies: &[&str]) -> Browser<'e> {
    run(Browser::of(env, &with_cookies(cookies))).unwrap()
}

#[test]
fn a_browser_is_recognised_by_its_cookie() {
    let env = World::default().remote();
    let mut browser = new_browser(&env);
    assert_eq!(browser.remembered_user(), None);
    browser.remember_user(user());
    let again = recognised(&env, &[&format!("a=b; {}; c=d", cookie(&browser))]);
    assert!(again.is(browser.id()));
    assert_eq!(again.remembered_user(), Some(&user()));
    // HTTP/2 sends cookies one by one.
    let again = recognised(&env, &["a=b", &cookie(&browser)]);
    assert!(again.is(browser.id()));
}

#[test]
fn two_browsers_are_told_apart() {
    let env = World::default().remote();
    let (one, other) = (new_browser(&env), new_browser(&env));
    assert_ne!(one.id(), other.id());
    assert!(!one.is(other.id()));
    assert!(!one.is(""));
}

#[test]
fn the_cookie_is_for_this_host_only_and_for_no_script() {
    let header = run(new_browser(&World::default().remote()).set_cookie_header()).unwrap();
    let (value, attributes) = header.to_str().unwrap().split_once("; ").unwrap();
    assert!(value.starts_with("__Host-entra-mcp="));
    assert_eq!(attributes, "Path=/; Max-Age=7776000; HttpOnly; SameSite=Lax; Secure");
    assert!(header.is_sensitive());
}

#[test]
fn the_cookie_shows_nothing_of_what_is_in_it() {
    let env = World::default().remote();
    let mut browser = new_browser(&env);
    browser.remember_user(user());
    let cookie = cookie(&browser);
    let sealed = cookie.split_once('=').unwrap().1;
    let bytes = base::encoding::from_base64url(sealed).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("alice") && !text.contains(browser.id()) && !cookie.contains(browser.id()));
}

#[test]
fn a_cookie_that_is_not_ours_makes_a_new_browser() {
    let world = World::default();
    let (env, mut other) = (world.remote(), world.remote());
    configure(&mut other, |http| http.public_url = "https://other.example.com".to_owned());
    let browser = new_browser(&env);
    let good = cookie(&browser);
    let other_server = cookie(&new_browser(&other));
    let csrf = format!("{COOKIE_NAME}={}", run(browser.csrf("request-1")).unwrap());
    for cookies in [
        &[][..],
        &[""],
        &["__Host-entra-mcp"],
        &["__Host-entra-mcp="],
        &["__Host-entra-mcp=nonsense"],
        &[&format!("{good}A")],
        &[&good.replacen("__Host-entra-mcp", "entra-mcp", 1)],
        &[&good.replacen("__Host-entra-mcp", "__host-entra-mcp", 1)],
        &[&format!("x{good}")],
        &[&other_server],
        &[&csrf],
    ] {
        let found = recognised(&env, cookies);
        assert!(!found.is(browser.id()), "{cookies:?}");
        assert_eq!(found.remembered_user(), None);
    }
}

#[test]
fn of_two_cookies_none_is_believed() {
    let env = World::default().remote();
    let (victim, attacker) = (cookie(&new_browser(&env)), cookie(&new_browser(&env)));
    let both = format!("{victim}; {attacker}");
    for cookies in [&[both.as_str()][..], &[&victim, &attacker], &[&victim, &victim], &["__Host-entra-mcp=x", &victim]]
    {
        let found = recognised(&env, cookies);
        for cookie in [&victim, &attacker] {
            assert!(!found.is(recognised(&env, &[cookie]).id()), "{cookies:?}");
        }
    }
}

#[test]
fn a_browser_is_forgotten_after_ninety_days() {
    let world = World::default();
    let env = world.remote();
    let browser = new_browser(&env);
    let cookie = cookie(&browser);
    world.advance(LIFETIME - Duration::from_secs(1));
    assert!(recognised(&env, &[&cookie]).is(browser.id()));
    world.advance(Duration::from_secs(1));
    assert!(!recognised(&env, &[&cookie]).is(browser.id()));
}

#[test]
fn another_process_with_the_same_store_recognises_the_browser() {
    let world = World::default();
    let (one, other) = (world.remote(), world.remote());
    let browser = new_browser(&one);
    let again = recognised(&other, &[&cookie(&browser)]);
    assert!(again.is(browser.id()));
    assert_eq!(run(again.check_csrf("request-1", &run(browser.csrf("request-1")).unwrap())), Ok(true));
}

#[test]
fn a_form_is_for_its_browser_and_its_request() {
    let env = World::default().remote();
    let (browser, other) = (new_browser(&env), new_browser(&env));
    let token = run(browser.csrf("request-1")).unwrap();
    assert_eq!(run(browser.check_csrf("request-1", &token)), Ok(true));
    assert_eq!(run(browser.check_csrf("request-2", &token)), Ok(false));
    assert_eq!(run(browser.check_csrf("", &token)), Ok(false));
    assert_eq!(run(other.check_csrf("request-1", &token)), Ok(false));
    let sealed_cookie = cookie(&browser);
    let sealed_cookie = sealed_cookie.split_once('=').unwrap().1;
    for nonsense in ["", "x", &token[1..], &format!("{token}A"), "ä", &"A".repeat(100_000), sealed_cookie] {
        assert_eq!(run(browser.check_csrf("request-1", nonsense)), Ok(false));
    }
}

#[test]
fn a_form_stays_open_for_an_hour() {
    let world = World::default();
    let env = world.remote();
    let browser = new_browser(&env);
    let token = run(browser.csrf("request-1")).unwrap();
    world.advance(FORM_LIFETIME - Duration::from_secs(1));
    assert_eq!(run(browser.check_csrf("request-1", &token)), Ok(true));
    world.advance(Duration::from_secs(1));
    assert_eq!(run(browser.check_csrf("request-1", &token)), Ok(false));
}

#[test]
fn the_clocks_of_two_servers_may_differ_a_little() {
    let world = World::default();
    let env = world.remote();
    world.advance(Duration::from_secs(1000));
    let browser = new_browser(&env);
    let token = run(browser.csrf("request-1")).unwrap();
    world.set_back(CLOCK_TOLERANCE);
    assert_eq!(run(browser.check_csrf("request-1", &token)), Ok(true));
    world.set_back(Duration::from_secs(1));
    assert_eq!(run(browser.check_csrf("request-1", &token)), Ok(false));
}

#[test]
fn servers_that_share_a_host_have_their_own_cookies() {
    let settings = |public_url: &str| HttpSettings { public_url: public_url.to_owned(), ..http_settings() };
    assert_eq!(cookie_name(&settings("https://mcp.example.com")), "__Host-entra-mcp");
    let names: Vec<String> = [
        "https://mcp.example.com/a",
        "https://mcp.example.com/b",
        "https://mcp.example.com:8443",
        "http://localhost:3001",
        "http://localhost:3002",
    ]
    .iter()
    .map(|url| cookie_name(&settings(url)))
    .collect();
    for (index, name) in names.iter().enumerate() {
        let prefix = if index < 3 { "__Host-entra-mcp-" } else { "entra-mcp-" };
        assert!(name.starts_with(prefix), "{name}");
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
    }
}

#[test]
fn only_a_server_on_the_persons_machine_does_without_tls() {
    let attributes = |public_url: &str| {
        let mut env = World::default().remote();
        configure(&mut env, |http| http.public_url = public_url.to_owned());
        let header = run(new_browser(&env).set_cookie_header()).unwrap();
        header.to_str().unwrap().to_owned()
    };
    assert!(!attributes("http://localhost:3001").contains("Secure"));
    assert!(!attributes("http://127.0.0.1:3001").contains("Secure"));
    assert!(attributes("https://localhost:3001").ends_with("; Secure"));
    assert!(attributes("http://mcp.example.com").ends_with("; Secure"));
}

#[test]
fn the_cookie_is_recognised_without_tls_too() {
    let mut env = World::default().remote();
    configure(&mut env, |http| http.public_url = "http://localhost:3001".to_owned());
    let browser = new_browser(&env);
    assert!(recognised(&env, &[&cookie(&browser)]).is(browser.id()));
}
