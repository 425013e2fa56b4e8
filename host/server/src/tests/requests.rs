//! What reaches the component, and what does not.

use super::*;

#[tokio::test]
async fn a_request_reaches_the_component_whole_and_its_answer_comes_back() {
    let server = Running::new().await;
    let reply = server
        .send("POST /mcp?a=b HTTP/1.1\r\nhost: localhost:1\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello")
        .await;
    assert_eq!((reply.status(), reply.body()), (200, "hello"));
    assert_eq!(reply.header("server"), None);
    assert!(reply.header("date").is_some());
    let seen = server.component.seen.lock().unwrap();
    assert_eq!(seen[0].uri(), "/mcp?a=b");
    assert_eq!(seen[0].headers()["host"], "localhost:1");
}

#[tokio::test]
async fn a_body_in_chunks_is_put_together() {
    let server = Running::new().await;
    let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let reply = server.send(format!("{head}2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n")).await;
    assert_eq!((reply.status(), reply.body()), (200, "abcde"));
}

#[tokio::test]
async fn http_2_is_spoken_too() {
    let server = Running::new().await;
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = Request::post(format!("http://{}/mcp", server.address));
    let response = client.request(request.body("hello".to_owned()).unwrap()).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
}

#[tokio::test]
async fn a_request_has_to_say_once_for_which_host_it_is() {
    let server = Running::new().await;
    for head in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "GET / HTTP/1.1\r\nhost:\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n",
        "GET http://a/ HTTP/1.1\r\nhost: b\r\n",
        "GET http://user@a/ HTTP/1.1\r\nhost: a\r\n",
    ] {
        server.send(format!("{head}connection: close\r\n\r\n")).await.refused(StatusCode::BAD_REQUEST);
    }
    let absolute = server.send("GET http://a/x HTTP/1.1\r\nhost: A\r\nconnection: close\r\n\r\n").await;
    assert_eq!(absolute.status(), 200);
    let connect = server.send("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\nconnection: close\r\n\r\n").await;
    connect.refused(StatusCode::NOT_IMPLEMENTED);
    assert_eq!(server.component.seen.lock().unwrap().len(), 1);
}

fn addresses(server: &Running) -> Vec<HeaderValue> {
    let seen = server.component.seen.lock().unwrap();
    seen.iter().flat_map(|request| request.headers().get_all(CLIENT_ADDRESS_HEADER)).cloned().collect()
}

#[tokio::test]
async fn the_address_of_the_client_is_what_the_host_says_and_not_what_the_client_does() {
    let server = Running::new().await;
    let lie = format!("{CLIENT_ADDRESS_HEADER}: 6.6.6.6\r\n{CLIENT_ADDRESS_HEADER}: 7.7.7.7\r\n");
    server.get("/", &lie).await;
    server.get("/", "x-forwarded-for: 6.6.6.6\r\n").await;
    assert_eq!(addresses(&server), ["127.0.0.1", "127.0.0.1"]);
}

#[tokio::test]
async fn a_declared_proxy_is_believed_about_the_address() {
    let server = Running::with(|options| options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    server.get("/", "x-forwarded-for: 6.6.6.6, 203.0.113.9\r\n").await;
    // The client hides nothing with a header that its proxy passes on.
    server.get("/", "x-forwarded-for: 203.0.113.9\r\nforwarded: x\r\n").await;
    server.get("/", "x-forwarded-for: 203.0.113.9\r\nforwarded: for=6.6.6.6\r\n").await;
    assert_eq!(addresses(&server), ["203.0.113.9"; 3]);
    let server = Running::with(|options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        options.forwarded_header = ForwardedHeader::Forwarded;
    })
    .await;
    server.get("/", "x-forwarded-for: 6.6.6.6\r\nforwarded: for=203.0.113.9\r\n").await;
    assert_eq!(addresses(&server), ["203.0.113.9"]);
}

/// The values that the component sees of the header in which a gateway hands over tokens.
async fn handed_over(proxies: &[&str], fields: &str) -> Vec<HeaderValue> {
    let trusted_proxies = proxies.iter().map(|proxy| proxy.parse().unwrap()).collect();
    let server = Running::with(|options| {
        options.trusted_proxies = trusted_proxies;
        options.token_header = Some(HeaderName::from_static("x-token"));
    })
    .await;
    let request = format!("POST /mcp HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n");
    assert_eq!(server.send(request).await.status(), 200);
    let seen = server.component.seen.lock().unwrap();
    assert_eq!(seen[0].headers().get("authorization").is_some(), fields.contains("authorization"));
    seen[0].headers().get_all("x-token").iter().cloned().collect()
}

#[tokio::test]
async fn a_declared_proxy_hands_over_a_token_that_no_log_shows() {
    let values = handed_over(&["127.0.0.0/8"], "X-Token: abc\r\nauthorization: Bearer x\r\n").await;
    assert_eq!(values, ["abc"]);
    assert!(values[0].is_sensitive() && !format!("{values:?}").contains("abc"));
    // The component refuses two values.
    assert_eq!(handed_over(&["127.0.0.1/32"], "x-token: a\r\nx-token: b\r\n").await, ["a", "b"]);
}

#[tokio::test]
async fn a_client_that_is_no_declared_proxy_hands_over_no_token_whatever_the_request_says() {
    for fields in [
        "x-token: abc\r\n",
        "X-TOKEN: a\r\nx-token: b\r\n",
        "x-token: abc\r\nx-forwarded-for: 10.0.0.1\r\nforwarded: for=10.0.0.1\r\n",
        "x-token: abc\r\nauthorization: Bearer x\r\nconnection: x-token\r\n",
    ] {
        for proxies in [&[][..], &["10.0.0.0/8"], &["127.0.0.2/32"]] {
            assert!(handed_over(proxies, fields).await.is_empty(), "{fields} {proxies:?}");
        }
    }
}

#[tokio::test]
async fn plain_http_on_a_network_is_refused_unless_a_proxy_is_declared() {
    let proxies: [IpNet; 1] = ["10.0.0.0/8".parse().unwrap()];
    for address in ["0.0.0.0:80", "192.0.2.1:80", "[::]:80", "[2001:db8::1]:80"] {
        let address = address.parse().unwrap();
        assert!(
            matches!(HttpServer::check(address, false, &[]), Err(ServerError::Insecure(found)) if found == address)
        );
        assert!(HttpServer::check(address, true, &[]).is_ok());
        assert!(HttpServer::check(address, false, &proxies).is_ok());
    }
    for address in ["127.0.0.1:80", "127.1.2.3:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        assert!(HttpServer::check(address.parse().unwrap(), false, &[]).is_ok(), "{address}");
    }
    let server = HttpServer::bind("0.0.0.0:0".parse().unwrap()).await.unwrap();
    let never = std::future::pending;
    let served = server.serve(Arc::<Component>::default(), options(), never(), never()).await;
    assert!(matches!(served, Err(ServerError::Insecure(_))));
}

#[tokio::test]
async fn behind_a_declared_proxy_other_addresses_get_health_checks_only() {
    let proxy =
        |network: &'static str| move |options: &mut Options| options.trusted_proxies = vec![network.parse().unwrap()];
    let server = Running::on("0.0.0.0:0", proxy("10.0.0.0/8")).await;
    server.get("/mcp", "x-forwarded-for: 10.0.0.1\r\n").await.refused(StatusCode::FORBIDDEN);
    assert_eq!(server.get("/healthz", "").await.status(), 200);
    assert_eq!(server.get("/readyz", "").await.status(), 200);
    let server = Running::on("0.0.0.0:0", proxy("127.0.0.0/8")).await;
    assert_eq!(server.get("/mcp", "").await.status(), 200);
}

/// A server whose component admits each address once to each of its endpoints.
async fn rate_limited(prefix: &'static str, change: impl FnOnce(&mut Options)) -> Running {
    let component = Component { retry_after: Some(Duration::from_millis(1_500)), ..Component::default() };
    Running::of(component, "127.0.0.1:0", |options| {
        options.path_prefix = prefix.to_owned();
        change(options);
    })
    .await
}

#[tokio::test]
async fn what_the_handler_does_not_admit_is_told_when_to_come_back_and_everything_else_is_served() {
    let server = rate_limited("", |_| {}).await;
    for path in ["/authorize?a=b", "/token", "/register", "/auth/callback", "/revoke"] {
        assert_eq!(server.get(path, "").await.status(), 200, "{path}");
        let refused = server.get(path, "").await;
        refused.refused(StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.header("retry-after"), Some("2"));
    }
    for path in ["/mcp", "/mcp", "/", "/", "/tokens", "/tokens"] {
        assert_eq!(server.get(path, "").await.status(), 200, "{path}");
    }
    let preflight = "OPTIONS /token HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(server.send(preflight).await.status(), 200);
}

#[tokio::test]
async fn a_bound_holds_below_the_path_of_the_public_url() {
    let server = rate_limited("/entra", |_| {}).await;
    assert_eq!(server.get("/entra/token", "").await.status(), 200);
    server.get("/token", "").await.refused(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(server.get("/entratoken", "").await.status(), 200);
    assert_eq!(server.get("/entratoken", "").await.status(), 200);
}

#[tokio::test]
async fn clients_behind_a_proxy_are_counted_apart() {
    let proxy = |options: &mut Options| options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let server = rate_limited("", proxy).await;
    let from = |client: &str| format!("x-forwarded-for: {client}\r\n");
    for client in ["203.0.113.1", "203.0.113.2", "2001:db8:0:1::1", "2001:db8:0:2::1"] {
        assert_eq!(server.get("/token", &from(client)).await.status(), 200, "{client}");
    }
    for client in ["203.0.113.1", "2001:db8:0:1::2"] {
        server.get("/token", &from(client)).await.refused(StatusCode::TOO_MANY_REQUESTS);
    }
}

#[tokio::test]
async fn a_transfer_coding_other_than_one_chunked_is_refused_and_ends_the_connection() {
    let server = Running::new().await;
    for codings in [
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: identity, chunked\r\n",
        "transfer-encoding: , chunked\r\n",
    ] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let request = format!("POST / HTTP/1.1\r\nhost: x\r\n{codings}\r\n0\r\n\r\n{smuggled}");
        let reply = server.send(request).await;
        reply.refused(StatusCode::NOT_IMPLEMENTED);
        assert_eq!(reply.header("connection"), Some("close"), "{codings}");
        assert_eq!(reply.text.matches("HTTP/1.1").count(), 1, "{codings}: {}", reply.text);
    }
    assert!(server.component.seen.lock().unwrap().is_empty());
    let chunked =
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    assert_eq!(server.send(chunked).await.body(), "ab");
}
