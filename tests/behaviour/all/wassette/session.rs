//! A person signs in, calls, and signs out.

use serde_json::json;
use wit_component::{DecodedWasm, decode};

use super::host::{Wassette, artefact};

const ALICE: &str = "alice@contoso.example";
const PROFILE: &str = "get-user-details";
const SIGN_OUT: &str = "sign-out";

#[test]
fn the_artefact_imports_wasi_only_and_exports_a_function_for_each_tool() {
    let DecodedWasm::Component(resolve, world) = decode(&artefact()).expect("a component") else {
        panic!("a component was expected");
    };
    let world = &resolve.worlds[world];
    for key in world.imports.keys() {
        let name = resolve.name_world_key(key);
        // The profile is a type, which no host has to supply.
        assert!((name.starts_with("wasi:") && !name.starts_with("wasi:sockets")) || name == "profile", "{name}");
    }
    let mut exports: Vec<_> = world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
    exports.retain(|name| name != "profile");
    assert_eq!(exports, [PROFILE, SIGN_OUT]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_call_shows_a_code_and_the_next_ones_the_profile_until_the_person_signs_out() {
    let host = Wassette::start().await;
    let first = host.call(PROFILE).await.unwrap();
    let instruction = first["err"].as_str().expect("an error").to_owned();
    assert!(instruction.ends_with("\nThen call this tool again."), "{instruction}");
    host.enter_code(&instruction, ALICE).await;

    let answer = host.call(PROFILE).await.unwrap();
    let expected = json!("Alice Anderson");
    assert_eq!(answer["ok"]["display-name"], expected, "{answer}");
    assert_eq!(answer["ok"]["user-principal-name"], ALICE);
    // The next call is of another instance, and does not ask the person.
    assert_eq!(host.call(PROFILE).await.unwrap(), answer);

    assert_eq!(host.call(SIGN_OUT).await.unwrap(), json!({ "ok": format!("Signed out: {ALICE}.") }));
    assert_eq!(host.call(SIGN_OUT).await.unwrap(), json!({ "ok": "No account was signed in." }));
    let again = host.call(PROFILE).await.unwrap();
    assert!(again["err"].as_str().is_some_and(|text| text.contains("enter the code")), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_before_the_person_is_done_says_so_and_the_code_stays() {
    let host = Wassette::start().await;
    let instruction = host.call(PROFILE).await.unwrap()["err"].as_str().expect("an error").to_owned();
    let meanwhile = host.call(PROFILE).await.unwrap()["err"].as_str().expect("an error").to_owned();
    let code = instruction.split("the code ").nth(1).and_then(|rest| rest.split('.').next()).unwrap();
    assert!(meanwhile.contains(code), "{meanwhile}");
    host.enter_code(&instruction, ALICE).await;
    assert_eq!(host.call(PROFILE).await.unwrap()["ok"]["user-principal-name"], ALICE);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_person_refuses_is_an_error_and_the_call_after_it_shows_another_code() {
    let host = Wassette::start().await;
    let instruction = host.call(PROFILE).await.unwrap()["err"].as_str().expect("an error").to_owned();
    host.decline_code(&instruction, ALICE).await;
    let declined = host.call(PROFILE).await.unwrap();
    assert!(declined["err"].as_str().is_some_and(|text| text.contains("declined")), "{declined}");
    let again = host.call(PROFILE).await.unwrap()["err"].as_str().expect("an error").to_owned();
    assert!(again.contains("enter the code") && again != instruction, "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_has_no_token_and_the_log_has_the_records_of_the_calls() {
    let host = Wassette::start().await;
    host.emulator.control().keep_issued();
    let instruction = host.call(PROFILE).await.unwrap()["err"].as_str().expect("an error").to_owned();
    host.enter_code(&instruction, ALICE).await;
    host.call(PROFILE).await.unwrap();
    let files = host.files();
    assert!(!files.is_empty());
    let issued = host.emulator.control().issued();
    assert!(!issued.is_empty());
    for secret in &issued {
        for (path, bytes) in &files {
            assert!(!contains(bytes, secret.as_bytes()), "{} has a token", path.display());
        }
        assert!(!host.log().contains(secret.as_str()));
    }
    for event in ["sign-in.started", "sign-in.ended", "tool.called"] {
        assert!(host.log().contains(event), "{event}");
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
