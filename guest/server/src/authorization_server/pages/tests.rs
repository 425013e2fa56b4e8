use proptest::prelude::*;

use super::*;

fn client(origin: ClientOrigin, name: Option<&str>) -> Client {
    Client {
        client_id: match origin {
            ClientOrigin::Document => "https://vendor.example/client.json".to_owned(),
            _ => "client-1".to_owned(),
        },
        name: name.map(str::to_owned),
        origin,
        redirect_uris: Vec::new(),
        secret_hash: None,
    }
}

/// The page for a client that calls itself `name`.
fn page(client: &Client, redirect_uri: &str, scopes: &[String], hint: Option<&str>) -> Response<Vec<u8>> {
    consent(&ConsentPage {
        client,
        redirect_uri,
        scopes,
        tools: &[Offered::new("List my groups", None), Offered::new("Find <a> user", None)],
        account_hint: hint,
        action: "https://mcp.example.com/authorize",
        request_id: "request-1",
        csrf_token: "token-1",
    })
}

fn text(response: &Response<Vec<u8>>) -> String {
    String::from_utf8(response.body().clone()).unwrap()
}

fn read() -> Vec<String> {
    vec!["User.Read".to_owned()]
}

#[test]
fn the_consent_page_says_who_asks_for_what_and_where_it_goes() {
    let client = client(ClientOrigin::Document, Some("Contoso Desktop"));
    let html = text(&page(&client, "https://vendor.example/callback", &read(), Some("alice@contoso.example")));
    for part in [
        "<bdi>Contoso Desktop</bdi>",
        "<b>vendor.example</b>",
        "<code>https://vendor.example/callback</code>",
        "<li>Read your profile, and use the tools of this server in your name:<ul><li>List my groups</li><li>Find &lt;a&gt; user</li></ul></li>",
        "<bdi>alice@contoso.example</bdi>",
        r#"<form method="post" action="https://mcp.example.com/authorize">"#,
        r#"name="request_id" value="request-1""#,
        r#"name="csrf_token" value="token-1""#,
        r#"name="decision" value="allow""#,
        r#"name="decision" value="deny""#,
    ] {
        assert!(html.contains(part), "{part}\n{html}");
    }
    assert!(!html.contains("Be careful"));
}

#[test]
fn the_first_button_of_the_form_is_the_safe_one() {
    // It is what Enter presses.
    let html = text(&page(&client(ClientOrigin::Settings, None), "https://a.example/", &read(), None));
    assert!(html.find(r#"value="deny""#).unwrap() < html.find(r#"value="allow""#).unwrap());
}

#[test]
fn the_page_says_who_vouches_for_the_name() {
    for (origin, part) in [
        (ClientOrigin::Settings, "the operator of this server has set up"),
        (ClientOrigin::Document, "described by <b>vendor.example</b>"),
        (ClientOrigin::Registration, "Its name has not been verified"),
    ] {
        let html = text(&page(&client(origin, Some("Contoso")), "https://a.example/", &read(), None));
        assert!(html.contains(part), "{part}");
    }
}

#[test]
fn the_page_warns_of_programs_on_this_computer() {
    for uri in ["http://localhost:1234/callback", "http://127.0.0.1:1234/", "http://[::1]:1234/", "https://localhost/"]
    {
        let html = text(&page(&client(ClientOrigin::Registration, None), uri, &read(), None));
        assert!(html.contains("A program on this computer"), "{uri}");
        assert!(html.contains("any program on this computer could ask this"), "{uri}");
        assert!(html.contains(r#"value="allow" aria-describedby="warning""#), "{uri}");
    }
}

#[test]
fn the_page_warns_of_a_redirect_to_another_site_than_the_clients() {
    let client = client(ClientOrigin::Document, Some("Contoso"));
    let html = text(&page(&client, "https://elsewhere.example/callback", &read(), None));
    assert!(html.contains("another site than the one that describes the program"));
}

#[test]
fn nothing_that_a_client_says_becomes_markup() {
    let hostile = r#""'><script>alert(1)</script><b x="&amp;"#;
    let client = client(ClientOrigin::Registration, Some(hostile));
    let scopes = vec![hostile.to_owned()];
    let html = text(&consent(&ConsentPage {
        client: &client,
        redirect_uri: hostile,
        scopes: &scopes,
        tools: &[],
        account_hint: Some(hostile),
        action: hostile,
        request_id: hostile,
        csrf_token: hostile,
    }));
    assert!(!html.contains("<script"), "{html}");
    assert!(!html.contains(r#""'>"#), "{html}");
    assert_eq!(html.matches("&quot;&#39;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;b x=&quot;&amp;amp;").count(), 7);
    for html in [text(&error(400, hostile, hostile, hostile)), text(&info(hostile, hostile))] {
        assert!(!html.contains("<script"), "{html}");
    }
}

#[test]
fn a_name_cannot_change_how_the_page_reads() {
    let name = "Con\u{202e}toso\u{2066}\u{200b}\0\n\nDesktop";
    let html = text(&page(&client(ClientOrigin::Registration, Some(name)), "https://a.example/", &read(), None));
    assert!(html.contains("<bdi>Contoso Desktop</bdi>"));
}

#[test]
fn a_long_name_does_not_push_the_buttons_away() {
    let long = "x".repeat(10_000);
    let html =
        text(&page(&client(ClientOrigin::Registration, Some(&long)), "https://a.example/", &read(), Some(&long)));
    assert!(html.contains(&format!("<bdi>{}…</bdi>", "x".repeat(MAX_SHOWN_NAME))));
    assert!(html.len() < 12_000, "{}", html.len());
}

#[test]
fn a_client_without_a_name_is_called_so() {
    for name in [None, Some(""), Some("\u{200b}")] {
        let html = text(&page(&client(ClientOrigin::Registration, name), "https://a.example/", &read(), None));
        assert!(html.contains("<bdi>A program without a name</bdi>"));
    }
}

#[test]
fn a_page_is_not_framed_kept_or_scripted() {
    let client = client(ClientOrigin::Settings, None);
    for response in [
        page(&client, "https://a.example/", &read(), None),
        error(400, "title", "message", "correlation-1"),
        info("title", "message"),
    ] {
        let headers = response.headers();
        let policy = headers["content-security-policy"].to_str().unwrap();
        for directive in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "style-src 'sha256-"] {
            assert!(policy.contains(directive), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
        assert_eq!(headers["x-frame-options"], "DENY");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "same-origin");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        assert!(!text(&response).contains("<script"));
    }
}

#[test]
fn the_policy_lets_the_consent_form_be_redirected_and_nothing_else_be_sent() {
    let consent = page(&client(ClientOrigin::Settings, None), "https://a.example/", &read(), None);
    assert!(!consent.headers()["content-security-policy"].to_str().unwrap().contains("form-action"));
    let error = error(400, "title", "message", "correlation-1");
    assert!(error.headers()["content-security-policy"].to_str().unwrap().ends_with("; form-action 'none'"));
}

#[test]
fn the_policy_names_the_style_that_the_page_has() {
    let response = info("title", "message");
    let html = text(&response);
    let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    let hash = STANDARD.encode(Sha256::digest(style.as_bytes()));
    assert!(response.headers()["content-security-policy"].to_str().unwrap().contains(&hash));
}

#[test]
fn an_error_page_has_its_status_and_a_correlation_id() {
    let response = error(403, "Not allowed", "Start again in the program.", "correlation-1");
    assert_eq!(response.status(), 403);
    let html = text(&response);
    assert!(html.contains("Start again in the program.") && html.contains("<code>correlation-1</code>"));
}

proptest! {
    #[test]
    fn no_text_leaves_its_element(name in any::<String>(), hint in any::<String>()) {
        let plain = text(&page(&client(ClientOrigin::Registration, Some("x")), "https://a.example/", &read(), Some("x")));
        let html = text(&page(&client(ClientOrigin::Registration, Some(&name)), "https://a.example/", &read(), Some(&hint)));
        let tags = |html: &str| html.matches('<').count();
        // An empty hint leaves its two elements out.
        prop_assert!(tags(&html) == tags(&plain) || visible(&hint).is_empty());
    }
}

#[test]
fn the_page_before_an_unverified_site_says_where_its_link_goes() {
    let link = "https://evil.example/a'b?error=x&state=%22%3Cscript%3E";
    let response = refused("https://evil.example/a'b", "A scope is not known <here>.", link, "correlation-1");
    let html = text(&response);
    assert_eq!((response.status().as_u16(), response.headers().get(http::header::LOCATION)), (400, None));
    assert!(html.contains("<b>evil.example</b>"), "{html}");
    assert!(html.contains("<a href=\"https://evil.example/a&#39;b?error=x&amp;state=%22%3Cscript%3E\">"), "{html}");
    assert!(html.contains("A scope is not known &lt;here&gt;."), "{html}");
    assert!(html.contains("correlation-1") && !html.contains("<script"), "{html}");
    let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'none'"), "{policy}");
}

#[test]
fn the_consent_page_warns_that_another_program_may_have_claimed_the_scheme() {
    let client = client(ClientOrigin::Settings, Some("Cursor"));
    let html = text(&page(&client, "cursor://anysphere.cursor-mcp/oauth/callback", &read(), None));
    for part in [
        "The program on this computer that opens links of the form <b>cursor:</b>",
        "<code>cursor://anysphere.cursor-mcp/oauth/callback</code>",
        "another program on this computer may have claimed <b>cursor:</b>",
        r#"aria-describedby="warning""#,
    ] {
        assert!(html.contains(part), "{part}\n{html}");
    }
}

#[test]
fn tools_of_other_authors_are_escaped_and_the_rest_is_counted() {
    let client = client(ClientOrigin::Settings, Some("client"));
    let hostile = Offered::new("</li><b>\u{202e}", Some("<script>alert(1)</script>"));
    let mut tools = vec![hostile];
    tools.extend((2..=23).map(|number| Offered::new(&format!("tool {number}"), None)));
    let page = |tools: &[Offered]| {
        text(&consent(&ConsentPage {
            client: &client,
            redirect_uri: "https://app.example.com/callback",
            scopes: &[SCOPE.to_owned()],
            tools,
            account_hint: None,
            action: "https://mcp.example.com/authorize",
            request_id: "request-1",
            csrf_token: "token-1",
        }))
    };
    let html = page(&tools);
    let first = "<li><bdi>&lt;/li&gt;&lt;b&gt;</bdi>: <bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi></li>";
    assert!(html.contains(first), "{html}");
    assert!(html.contains("<li>tool 20</li><li>and 3 more</li></ul>"), "{html}");
    assert!(!html.contains("tool 21"));
    assert!(page(tools.get(..20).unwrap()).contains("<li>tool 20</li></ul>"));
}
