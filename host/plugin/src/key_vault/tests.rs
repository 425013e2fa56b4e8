use serde_json::json;

use super::*;

fn parsed(text: &str) -> Result<VaultObject, VaultFault> {
    VaultObject::parse(text, VaultCollection::Certificates)
}

#[test]
fn an_identifier_of_the_portal_names_a_vault_an_object_and_perhaps_a_version() {
    let newest = parsed("https://contoso.vault.azure.net/certificates/mcp").unwrap();
    assert_eq!((newest.resource().as_str(), newest.host()), ("https://vault.azure.net", "contoso.vault.azure.net"));
    assert_eq!(newest.to_string(), "https://contoso.vault.azure.net/certificates/mcp");
    let version = parsed("https://contoso.vault.azure.net/certificates/mcp/0123abc").unwrap();
    assert_eq!(version.url(Some("sign")).path(), "/certificates/mcp/0123abc/sign");
    for (host, resource) in [
        ("x.vault.azure.cn", "https://vault.azure.cn"),
        ("x.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net"),
        ("hsm.managedhsm.azure.net", "https://managedhsm.azure.net"),
    ] {
        assert_eq!(parsed(&format!("https://{host}/certificates/mcp/")).unwrap().resource(), resource);
    }
    let stand_in = parsed("http://127.0.0.1:1/certificates/mcp").unwrap();
    assert_eq!(stand_in.resource(), "https://vault.azure.net");
}

#[test]
fn no_token_goes_to_an_address_outside_of_key_vault() {
    for text in [
        "",
        "mcp",
        "https://contoso.vault.azure.net",
        "https://contoso.vault.azure.net/certificates",
        "https://contoso.vault.azure.net/keys/mcp",
        "https://contoso.vault.azure.net/certificates/mcp/1/2",
        "https://contoso.vault.azure.net/certificates/m%2fcp",
        "https://contoso.vault.azure.net/certificates/mcp?api-version=1",
        "https://contoso.vault.azure.net/certificates/mcp#x",
        "https://user@contoso.vault.azure.net/certificates/mcp",
        "http://contoso.vault.azure.net/certificates/mcp",
        "https://vault.azure.net/certificates/mcp",
        "https://.vault.azure.net/certificates/mcp",
        "https://evilvault.azure.net/certificates/mcp",
        "https://vault.azure.net.example/certificates/mcp",
        "https://contoso.vault.azure.net.example/certificates/mcp",
    ] {
        assert_eq!(parsed(text), Err(VaultFault::Address(text.to_owned())), "{text}");
    }
}

#[test]
fn what_an_answer_names_is_in_the_same_vault() {
    let own = parsed("https://contoso.vault.azure.net/certificates/mcp").unwrap();
    let key = own.sibling("https://contoso.vault.azure.net/keys/mcp/1", VaultCollection::Keys).unwrap();
    assert_eq!(key.to_string(), "https://contoso.vault.azure.net/keys/mcp/1");
    for other in [
        "https://fabrikam.vault.azure.net/keys/mcp/1",
        "https://contoso.vault.azure.net:444/keys/mcp/1",
        "https://contoso.vault.azure.net/secrets/mcp/1",
        "http://contoso.vault.azure.net/keys/mcp/1",
    ] {
        assert_eq!(own.sibling(other, VaultCollection::Keys), None, "{other}");
    }
}

#[test]
fn what_a_vault_says_is_short_and_plain() {
    let long = format!("a\u{1b}[31m\n{}", "x".repeat(500));
    let body =
        json!({ "error": { "code": "Forbidden", "message": long, "innererror": { "code": "ForbiddenByRbac" } } });
    let text = said(&body);
    assert!(text.starts_with("ForbiddenByRbac a [31m ") && text.chars().count() == MAX_SAID, "{text}");
    assert_eq!(said(&Value::Null), "nothing");
    let challenge = r#"Bearer authorization="https://login.windows.net/t", resource="https://vault.azure.net""#;
    let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))]);
    assert_eq!(authority(&headers), "https://login.windows.net/t");
    assert_eq!(authority(&HeaderMap::new()), "an unknown place");
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit() {
    let body = |length: usize| Full::new(Bytes::from(vec![7; length]));
    assert_eq!(secret_body(body(10), 10).await.map(|body| body.to_vec()), Some(vec![7; 10]));
    assert!(secret_body(body(11), 10).await.is_none());
    // A frame that something else holds stays as it is.
    let held = Bytes::from(vec![7; 3]);
    assert_eq!(secret_body(Full::new(held.clone()), 3).await.map(|body| body.len()), Some(3));
    assert_eq!(held, vec![7; 3]);
}

#[cfg(unix)]
#[test]
fn a_wrapped_key_below_a_folder_that_others_can_change_is_refused_before_the_vault_is_asked() {
    use std::os::unix::fs::PermissionsExt as _;

    use crate::secret_store::{KeyError, KeySource as _};
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().canonicalize().unwrap().join("keys");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("store.wrapped-key");
    let key = VaultObject::parse("https://contoso.vault.azure.net/keys/store", VaultCollection::Keys).unwrap();
    let file = VaultKeyFile::new(&path, None, key, Err(VaultFault::Address("not asked".to_owned())));
    assert!(file.read().unwrap().is_none());
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o770)).unwrap();
    let reason = "can be written by other users than its owner";
    assert_eq!(file.read().err().unwrap(), KeyError::FolderExposed { key: path.clone(), path: folder, reason });
}
