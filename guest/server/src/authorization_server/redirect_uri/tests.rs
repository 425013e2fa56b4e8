use proptest::prelude::*;

use super::*;

#[test]
fn https_and_http_to_this_machine_can_be_registered() {
    for uri in [
        "https://app.example.com/callback",
        "https://app.example.com",
        "https://app.example.com/",
        "https://app.example.com:8443/callback?from=entra",
        "https://app.example.com/callback?codes=1&my_state=code&issuer=x&path=/code",
        "https://app.example.com/~user/call%20back;v=1",
        "https://xn--bcher-kva.example/callback",
        "https://203.0.113.5/callback",
        "https://localhost:8443/callback",
        "http://localhost/callback",
        "http://localhost:33418",
        "http://127.0.0.1:49152/",
        "http://[::1]:49152/callback",
    ] {
        assert_eq!(check(uri), Ok(()), "{uri}");
    }
}

#[test]
fn nothing_else_can_be_registered() {
    use RedirectUriError::*;
    let long = format!("https://app.example.com/{}", "a".repeat(MAX_LENGTH));
    for (uri, error) in [
        ("", NotAbsolute),
        ("/callback", NotAbsolute),
        ("//app.example.com/callback", NotAbsolute),
        ("app.example.com/callback", NotAbsolute),
        ("https:app.example.com/callback", NotAbsolute),
        ("https:/app.example.com/callback", NotAbsolute),
        ("https://", NotAbsolute),
        ("https:///callback", NotNormal),
        ("https://:443/callback", NotAbsolute),
        ("https://app.example.com:port/callback", NotAbsolute),
        ("https://app.example.com:99999/callback", NotAbsolute),
        (&long, TooLong),
        ("https://app.example.com/call back", Character),
        ("https://app.example.com/callback\n", Character),
        (" https://app.example.com/callback", Character),
        ("https://app.example.com/call\tback", Character),
        ("https://app.example.com/\0", Character),
        ("https://app.example.com\\@evil.example/", Character),
        ("https:\\\\app.example.com/callback", Character),
        ("https://app.example.com/\"><script>", Character),
        ("https://app.example.com/%", Character),
        ("https://app.example.com/%4", Character),
        ("https://app.example.com/%zz", Character),
        ("https://bücher.example/callback", Character),
        ("https://exаmple.com/callback", Character),
        ("https://app.example.com/\u{202e}", Character),
        ("https://*.example.com/callback", Wildcard),
        ("https://app.example.com/*", Wildcard),
        ("https://app.example.com/callback#", Fragment),
        ("https://app.example.com/callback#token", Fragment),
        ("com.example.app:/callback", Scheme),
        ("cursor://anysphere.cursor-mcp/oauth/callback", Scheme),
        ("vscode://publisher.extension/callback", Scheme),
        ("javascript:alert(1)//", Scheme),
        ("data:text/html,hello", Scheme),
        ("file:///etc/passwd", Scheme),
        ("urn:ietf:wg:oauth:2.0:oob", Scheme),
        ("https://user@app.example.com/callback", UserInfo),
        ("https://user:password@app.example.com/callback", UserInfo),
        ("https://@app.example.com/callback", UserInfo),
        ("https://good.example.com@evil.example/", UserInfo),
        ("http://localhost@evil.example/", UserInfo),
        ("http://app.example.com/callback", Insecure),
        ("http://localhost.evil.example/callback", Insecure),
        ("http://127.0.0.1.evil.example/callback", Insecure),
        ("http://10.0.0.1/callback", Insecure),
        ("http://[::2]/callback", Insecure),
        ("HTTPS://app.example.com/callback", NotNormal),
        ("https://App.Example.com/callback", NotNormal),
        ("https://app.example.com:443/callback", NotNormal),
        ("http://localhost:80/callback", NotNormal),
        ("https://app.example.com./callback", NotNormal),
        ("http://localhost./callback", NotNormal),
        ("https://app.example.com/a/../callback", NotNormal),
        ("https://app.example.com/./callback", NotNormal),
        ("https://app.example.com/a/%2e%2e/callback", NotNormal),
        ("https://app%2eexample.com/callback", NotNormal),
        ("https://A%a2.example.com/callback", NotNormal),
        ("http://127.1/callback", NotNormal),
        ("http://2130706433/callback", NotNormal),
        ("http://0x7f.0.0.1/callback", NotNormal),
        ("http://[0:0:0:0:0:0:0:1]/callback", NotNormal),
        ("https://app.example.com:08443/callback", NotNormal),
        ("http://localhost:0", Port),
        ("http://localhost:0/callback", Port),
        ("http://127.0.0.1:0/callback", Port),
        ("https://app.example.com:0/callback", Port),
        ("https://app.example.com/callback?code=1", AnswerParameter),
        ("https://app.example.com/callback?code", AnswerParameter),
        ("https://app.example.com/callback?%63ode=1", AnswerParameter),
        ("https://app.example.com/callback?code[]=1", AnswerParameter),
        ("https://app.example.com/callback?Code=1", AnswerParameter),
        ("https://app.example.com/callback?+code=1", AnswerParameter),
        ("https://app.example.com/callback?x=1&state=s", AnswerParameter),
        ("https://app.example.com/callback?x=1&&iss=https://evil.example", AnswerParameter),
        ("https://app.example.com/callback?a=1;code=x", AnswerParameter),
        ("https://app.example.com/callback?;state=x", AnswerParameter),
        ("https://app.example.com/callback?a=1&b=2;%69ss=x&c=3", AnswerParameter),
        ("https://app.example.com/callback?error=access_denied", AnswerParameter),
        ("https://app.example.com/callback?error_description=x", AnswerParameter),
        ("https://app.example.com/callback?error_uri=https://evil.example", AnswerParameter),
        ("https://app.example.com/callback?response=x", AnswerParameter),
        ("https://app.example.com/callback?id_token=x", AnswerParameter),
        ("http://localhost/callback?access_token=x", AnswerParameter),
    ] {
        assert_eq!(check(uri), Err(error), "{uri:?}");
    }
}

#[test]
fn a_request_names_the_registered_uri_exactly() {
    let registered = "https://good.example.com/callback";
    assert!(matches(registered, registered));
    for requested in [
        "https://good.example.com/callback/",
        "https://good.example.com/Callback",
        "https://good.example.com/callback?x=1",
        "https://good.example.com/callback?",
        "https://good.example.com/callback#",
        "https://good.example.com/callback#fragment",
        "https://good.example.com/%63allback",
        "https://good.example.com/callback%20",
        "https://good.example.com/callback ",
        " https://good.example.com/callback",
        "https://good.example.com//callback",
        "https://good.example.com/x/../callback",
        "https://good.example.com:443/callback",
        "https://good.example.com:8443/callback",
        "https://GOOD.example.com/callback",
        "HTTPS://good.example.com/callback",
        "http://good.example.com/callback",
        "//good.example.com/callback",
        "/callback",
        "https:good.example.com/callback",
        "https:\\\\good.example.com\\callback",
        "https://good.example.com\\callback",
        "https://good.example.com.evil.com/callback",
        "https://good.example.com@evil.com/callback",
        "https://user@good.example.com/callback",
        "https://evil.com/https://good.example.com/callback",
        "https://evil.com?https://good.example.com/callback",
        "https://good.example.com./callback",
        "https://gооd.example.com/callback",
        "https://good.example.com/callback\0",
        "https://good.example.com/callback\r\nLocation: https://evil.com",
        "https://good.example.com",
        "",
    ] {
        assert!(!matches(registered, requested), "{requested:?}");
    }
}

#[test]
fn a_slash_after_the_host_is_not_forgiven() {
    assert!(!matches("https://app.example.com", "https://app.example.com/"));
    assert!(!matches("http://localhost:1234", "http://localhost:1234/"));
}

#[test]
fn a_loopback_redirect_may_use_any_port() {
    for host in LOOPBACK_HOSTS {
        let registered = format!("http://{host}:3000/callback?a=b");
        for port in [":1", ":80", ":3000", ":49152", ":65535", ""] {
            assert!(matches(&registered, &format!("http://{host}{port}/callback?a=b")), "{host}{port}");
        }
        assert!(matches(&format!("http://{host}/callback"), &format!("http://{host}:5000/callback")));
        assert!(matches(&format!("http://{host}"), &format!("http://{host}:5000")));
    }
}

#[test]
fn a_loopback_redirect_differs_in_nothing_but_the_port() {
    let registered = "http://localhost:3000/callback";
    for requested in [
        "http://127.0.0.1:3000/callback",
        "http://[::1]:3000/callback",
        "https://localhost:3000/callback",
        "http://LOCALHOST:3000/callback",
        "http://localhost:3000/callback/",
        "http://localhost:3000/other",
        "http://localhost:3000/callback?x=1",
        "http://localhost:3000/callback#x",
        "http://localhost:3000",
        "http://localhost:/callback",
        "http://localhost:0/callback",
        "http://localhost:03000/callback",
        "http://localhost:+3000/callback",
        "http://localhost:65536/callback",
        "http://localhost:3000:3000/callback",
        "http://localhost:3000@evil.com/callback",
        "http://localhost@evil.com:3000/callback",
        "http://localhost:x@evil.com/callback",
        "http://localhost.evil.com:3000/callback",
        "http://localhost:3000.evil.com/callback",
        "http://localhost:3000\\@evil.com/callback",
        "http://localhostevil.com/callback",
        "http://evil.com:3000/callback",
        "http://localhost./callback",
        "http://user@localhost:3000/callback",
    ] {
        assert!(!matches(registered, requested), "{requested:?}");
    }
}

#[test]
fn https_to_this_machine_keeps_its_port() {
    assert!(!matches("https://localhost:3000/callback", "https://localhost:3001/callback"));
    assert!(!has_variable_port("https://localhost:3000/callback"));
    assert!(has_variable_port("http://localhost:3000/callback"));
}

#[test]
fn every_way_to_this_machine_is_loopback() {
    for uri in [
        "http://localhost:1/",
        "https://localhost/",
        "http://app.localhost/",
        "http://127.0.0.1/",
        "http://127.9.9.9/",
        "http://127.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
    ] {
        assert!(is_loopback(uri), "{uri}");
    }
    for uri in ["https://app.example.com/", "https://localhost.evil.com/", "https://10.0.0.1/", "nonsense", ""] {
        assert!(!is_loopback(uri), "{uri}");
    }
}

#[test]
fn people_see_the_host_that_the_browser_goes_to() {
    assert_eq!(host("https://app.example.com/callback"), "app.example.com");
    assert_eq!(host("https://app.example.com:8443/callback"), "app.example.com:8443");
    assert_eq!(host("http://127.0.0.1:49152/"), "127.0.0.1:49152");
    assert_eq!(host("http://[::1]:49152/"), "[::1]:49152");
    assert_eq!(host("https://good.example.com@evil.com/"), "evil.com");
    assert_eq!(host("nonsense"), "");
}

proptest! {
    #[test]
    fn no_text_is_too_strange_to_be_checked(text in any::<String>()) {
        let _ = (check(&text), matches("http://localhost/", &text), is_loopback(&text), host(&text));
    }

    #[test]
    fn what_matches_a_registered_uri_could_be_registered_or_differs_in_the_default_port(
        text in "http://(localhost|127\\.0\\.0\\.1)[:/?@a-z0-9.\\\\#]{0,20}"
    ) {
        if matches("http://localhost/a", &text) {
            let url = Url::parse(&text).unwrap();
            prop_assert_eq!(url.host_str(), Some("localhost"));
            prop_assert_eq!(url.path(), "/a");
            prop_assert_eq!(url.username(), "");
            prop_assert_eq!(url.fragment(), None);
        }
    }
}
