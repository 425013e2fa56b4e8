use std::sync::Mutex as StdMutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::client_credential::kept_token::FAILED;
use crate::clock::ManualClock;

const NOW: u64 = 1_794_996_000;
const EXCHANGE: &str = "api://AzureADTokenExchange";

/// A service that gives these answers in turn, and the heads of the requests that it has seen.
struct Service {
    url: Url,
    seen: Arc<StdMutex<Vec<String>>>,
}

impl Service {
    async fn answering(answers: Vec<(u16, &str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let seen = Arc::<StdMutex<Vec<String>>>::default();
        let requests = Arc::clone(&seen);
        let answers: Vec<_> =
            answers.into_iter().map(|(status, header, body)| (status, header.to_owned(), body)).collect();
        tokio::spawn(async move {
            for (status, header, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                requests.lock().unwrap().push(String::from_utf8(head).unwrap().to_lowercase());
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} X\r\n{header}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { url, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn token(number: u32, lifetime: u64) -> String {
    let claims = serde_json::json!({ "exp": NOW + lifetime, "jti": number });
    format!("{}.{}.c2ln", jwt::encoded(&serde_json::json!({ "alg": "RS256" })), jwt::encoded(&claims))
}

fn answer(token: &str) -> (u16, &'static str, String) {
    (200, "", serde_json::json!({ "access_token": token, "expires_on": "1" }).to_string())
}

fn of(service: IdentityService, identity: Option<&str>) -> (ManagedIdentity, ManualClock) {
    let clock = ManualClock::new(NOW);
    (ManagedIdentity::new(service, identity.map(str::to_owned), EXCHANGE, Arc::new(clock.clone())), clock)
}

fn imds(service: &Service) -> IdentityService {
    IdentityService::Imds { authority: service.url.clone() }
}

fn variables<'v>(set: &'v [(&'v str, &'v str)]) -> impl Fn(&str) -> Option<String> + 'v {
    |name| set.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
}

#[test]
fn the_variables_of_the_platform_say_which_service_there_is() {
    let app_service = [("IDENTITY_ENDPOINT", "http://localhost:1/msi/token"), ("IDENTITY_HEADER", "h")];
    let arc = [("IDENTITY_ENDPOINT", "http://localhost:40342/x"), ("IMDS_ENDPOINT", "http://localhost:40342")];
    for (set, name) in [(&app_service[..], "App Service"), (&arc, "Azure Arc"), (&[], "virtual machine (IMDS)")] {
        let service = IdentityService::of_variables(variables(set)).map(|service| service.name());
        assert_eq!(service, Ok(name));
    }
    for set in [
        &[("IDENTITY_ENDPOINT", "http://localhost:1/msi/token")][..],
        &[("IDENTITY_ENDPOINT", "https://localhost:1/x"), ("IDENTITY_HEADER", "h")],
        &[("IDENTITY_ENDPOINT", "x"), ("IDENTITY_HEADER", "h"), ("IDENTITY_SERVER_THUMBPRINT", "t")],
    ] {
        let service = IdentityService::of_variables(variables(set)).map(|service| service.name());
        assert!(matches!(service, Err(IdentityFault::Unsupported(_))), "{set:?}");
    }
}

#[tokio::test]
async fn each_service_is_asked_in_its_own_way() {
    let one = token(1, 86_400);
    let service = Service::answering(vec![answer(&one), answer(&one), answer(&one), answer(&one)]).await;
    let app_service = IdentityService::AppService {
        endpoint: service.url.join("/msi/token").unwrap(),
        header: SecretBytes::new(b"the-header".to_vec()),
    };
    let resource_id = "/subscriptions/0/x";
    for (from, identity) in [
        (app_service.clone(), None),
        (app_service, Some(resource_id)),
        (imds(&service), Some("client-1")),
        (imds(&service), Some(resource_id)),
    ] {
        assert_eq!(of(from, identity).0.token().await.as_deref(), Ok(&one));
    }
    let seen = service.seen();
    let resource = "resource=api%3a%2f%2fazureadtokenexchange";
    for (request, parts) in seen.iter().zip([
        ["get /msi/token?api-version=2019-08-01&", "x-identity-header: the-header"],
        ["mi_res_id=%2fsubscriptions%2f0%2fx ", "api-version=2019-08-01"],
        ["get /metadata/identity/oauth2/token?api-version=2018-02-01&", "client_id=client-1 "],
        ["msi_res_id=%2fsubscriptions%2f0%2fx ", "metadata: true"],
    ]) {
        assert!(request.contains(resource) && parts.iter().all(|part| request.contains(part)), "{request}");
    }
    assert!(!seen[0].contains("client_id") && !seen[2].contains("x-identity-header"));
}

#[tokio::test]
async fn a_token_is_kept_until_it_is_about_to_expire_and_the_old_one_bridges_a_failure() {
    let (one, two) = (token(1, 3_600), token(2, 7_200));
    let failed = || (500, "", String::new());
    let service = Service::answering(vec![answer(&one), failed(), failed(), answer(&two)]).await;
    let (identity, clock) = of(imds(&service), None);
    assert_eq!(identity.token().await.as_deref(), Ok(&one));
    clock.advance(Duration::from_secs(3_299));
    assert_eq!(identity.token().await.as_deref(), Ok(&one));
    assert_eq!(service.seen().len(), 1);
    clock.advance(Duration::from_secs(1));
    let (bridged, ()) = tokio::join!(identity.token(), async {
        // The call that asks waits for a moment, too.
        while clock.next_wait().await != RETRY_PAUSE {
            tokio::task::yield_now().await;
        }
        clock.advance(RETRY_PAUSE);
    });
    assert_eq!((bridged.as_deref(), service.seen().len()), (Ok(&one), 3));
    clock.advance(FAILED);
    assert_eq!(identity.token().await.as_deref(), Ok(&two));
}

#[tokio::test]
async fn a_token_that_entra_refuses_is_asked_for_anew() {
    let (one, two) = (token(1, 86_400), token(2, 86_400));
    let service = Service::answering(vec![answer(&one), answer(&two), answer(&two)]).await;
    let (identity, _) = of(imds(&service), None);
    let refused = identity.obtain("").await.unwrap();
    let other = identity.replacement("", &refused).await.unwrap();
    assert_eq!(other, Credential::Assertion(Zeroizing::new(two)));
    assert_eq!(identity.replacement("", &other).await, Ok(Credential::None));
}

#[tokio::test]
async fn a_failure_says_what_to_change() {
    let unknown = serde_json::json!({ "error": "invalid_request", "error_description": "Identity not found" });
    for (answer, fault) in [
        ((400, "", unknown.to_string()), IdentityFault::NoIdentity("Identity not found".to_owned())),
        ((401, "", String::new()), IdentityFault::Refused(StatusCode::UNAUTHORIZED)),
        ((302, "location: http://127.0.0.1:1/\r\n", String::new()), IdentityFault::Failed(StatusCode::FOUND)),
        ((200, "", "<html>".to_owned()), IdentityFault::Malformed("no token in the answer")),
        (
            (200, "", r#"{"access_token":"opaque"}"#.to_owned()),
            IdentityFault::Malformed("the token is no JSON Web Token"),
        ),
    ] {
        let service = Service::answering(vec![answer]).await;
        assert_eq!(of(imds(&service), None).0.token().await, Err(fault));
    }
}

/// The clock of the runtime stands still and goes on by itself where nothing else happens, so this takes no time.
#[tokio::test(start_paused = true)]
async fn a_machine_without_the_service_knows_it_within_three_seconds() {
    // A network for documentation, which leads nowhere.
    for place in ["http://192.0.2.1", "http://127.0.0.1:1"] {
        let service = IdentityService::Imds { authority: Url::parse(place).unwrap() };
        let (identity, _) = of(service, None);
        let token = tokio::time::timeout(Duration::from_secs(3), identity.token()).await;
        let Ok(Err(fault @ IdentityFault::Absent { .. })) = token else { panic!("{place}: {token:?}") };
        let said = fault.to_string();
        assert!(said.starts_with(&format!("no managed identity service answers at {place} (")), "{said}");
        let change = "Switch the identity on under Identity in the portal, or use another --credential";
        assert!(said.ends_with(change), "{said}");
    }
}

/// A place that takes connections, and answers requests that have no `Metadata` if `refuses`; the others after `slow`.
async fn taking_connections(refuses: bool, slow: Option<(Duration, String)>) -> IdentityService {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let slow = slow.clone();
            open.push(tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let is_probe = !String::from_utf8_lossy(&head).to_lowercase().contains("metadata: true");
                let answer = match slow {
                    _ if is_probe && refuses => "HTTP/1.1 400 X\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    Some((after, body)) if !is_probe => {
                        let _ = tokio::time::timeout(after, std::future::pending::<()>()).await;
                        format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                    }
                    _ => std::future::pending().await,
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }));
        }
    });
    IdentityService::Imds { authority }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_takes_connections_and_never_answers_is_known_within_three_seconds() {
    let (identity, _) = of(taking_connections(false, None).await, None);
    let token = tokio::time::timeout(Duration::from_secs(3), identity.token()).await;
    let Ok(Err(IdentityFault::Absent { reason, .. })) = &token else { panic!("{token:?}") };
    assert_eq!(reason, "it takes connections and does not answer");
    let said = token.unwrap().unwrap_err().to_string();
    assert!(
        said.contains("Switch the identity on under Identity in the portal, or use another --credential"),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_there_and_slow_is_waited_for() {
    let one = token(1, 86_400);
    let body = answer(&one).2;
    let (identity, _) = of(taking_connections(true, Some((Duration::from_secs(8), body.clone()))).await, None);
    assert_eq!(identity.token().await.as_deref(), Ok(&one));
    let (identity, _) = of(taking_connections(true, Some((Duration::from_secs(11), body))).await, None);
    let Err(IdentityFault::Absent { reason, .. }) = identity.token().await else { panic!("it is too slow") };
    assert_eq!(reason, "no answer within 10 seconds");
}

#[tokio::test]
async fn azure_arc_wants_a_file_of_its_own_to_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1.key"), "proof-1\n").unwrap();
    std::fs::write(elsewhere.path().join("1.key"), "secret").unwrap();
    let challenge = |path: PathBuf| format!("www-authenticate: Basic realm={}\r\n", path.display());
    let one = token(1, 86_400);

    let right = challenge(folder.path().join("1.key"));
    let service = Service::answering(vec![(401, &right, String::new()), answer(&one)]).await;
    let arc = |service: &Service| IdentityService::Arc {
        endpoint: service.url.join("/metadata/identity/oauth2/token").unwrap(),
        folder: folder.path().to_owned(),
    };
    assert_eq!(of(arc(&service), None).0.token().await.as_deref(), Ok(&one));
    let seen = service.seen();
    assert!(seen[0].contains("api-version=2020-06-01") && !seen[0].contains("authorization"), "{seen:?}");
    assert!(seen[1].contains("authorization: basic proof-1\r\n"), "{seen:?}");

    for (path, is_of_agent) in [
        (elsewhere.path().join("1.key"), false),
        (folder.path().join("../1.key"), false),
        (folder.path().join("1.txt"), false),
        (folder.path().join("2.key"), true),
    ] {
        let service = Service::answering(vec![(401, &challenge(path.clone()), String::new())]).await;
        let fault = of(arc(&service), None).0.token().await.unwrap_err();
        let expected = if is_of_agent {
            matches!(fault, IdentityFault::ArcKey { .. })
        } else {
            fault == IdentityFault::ArcPath(path)
        };
        assert!(expected, "{fault:?}");
    }
    let user_assigned = of(arc(&service), Some("client-1")).0.token().await;
    assert!(matches!(user_assigned, Err(IdentityFault::Unsupported(_))));
}
