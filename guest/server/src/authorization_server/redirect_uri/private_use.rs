//! Redirects to a program that has claimed a URI scheme of its own (RFC 8252 section 7.1), such as
//! `cursor://anysphere.cursor-mcp/oauth/callback`.
//!
//! Any program on the person's machine can claim any scheme, so nothing says which one gets the code; PKCE keeps another
//! one from redeeming it, and nothing keeps it from asking in the same name. The operator lets such schemes in: for a
//! client in the settings, or by name for clients that register themselves. People are always asked.

use url::Url;

use super::{RedirectUriError, check_form};

/// Schemes that browsers and operating systems give a meaning to: no program of its own answers there, or a script would
/// run.
const TAKEN: [&str; 34] = [
    "about",
    "blob",
    "chrome",
    "chrome-extension",
    "content",
    "data",
    "dns",
    "edge",
    "file",
    "filesystem",
    "ftp",
    "ftps",
    "gopher",
    "http",
    "https",
    "intent",
    "jar",
    "javascript",
    "ldap",
    "ldaps",
    "mailto",
    "moz-extension",
    "resource",
    "sftp",
    "sms",
    "smb",
    "ssh",
    "tel",
    "urn",
    "vbscript",
    "view-source",
    "ws",
    "wss",
    "search-ms",
];
/// The same, for schemes that begin like this: those that Windows opens parts of itself with, and those of web pages.
const TAKEN_PREFIXES: [&str; 2] = ["ms-", "web+"];

/// Which schemes are let in.
#[derive(Debug, Clone, Copy)]
pub enum AdmittedSchemes<'a> {
    /// Every one: the operator has written the redirect URI.
    Any,
    /// Those that the operator has named.
    Named(&'a [String]),
}

/// Whether a client may use the redirect URI: one of those that [`super::check`] knows, or one with a scheme that is let
/// in.
pub fn check(uri: &str, admitted: AdmittedSchemes<'_>) -> Result<(), RedirectUriError> {
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| check_scheme(scheme).is_ok());
    let is_admitted = scheme.is_some_and(|scheme| match admitted {
        AdmittedSchemes::Any => true,
        AdmittedSchemes::Named(names) => names.iter().any(|name| name == scheme),
    });
    if !is_admitted {
        return super::check(uri);
    }
    check_form(uri)?;
    let rest = uri.split_once(':').map(|(_, rest)| rest).unwrap_or_default();
    if !rest.starts_with('/') {
        return Err(RedirectUriError::NotAbsolute);
    }
    if rest.strip_prefix("//").is_some_and(|rest| rest.split(['/', '?']).next().unwrap_or_default().contains('@')) {
        return Err(RedirectUriError::UserInfo);
    }
    let url = Url::parse(uri).map_err(|_| RedirectUriError::NotAbsolute)?;
    if url.as_str() == uri { Ok(()) } else { Err(RedirectUriError::NotNormal) }
}

/// Whether a program may have claimed the scheme for itself. RFC 8252 wants a domain name in reverse order; programs in
/// use do without one.
pub fn check_scheme(scheme: &str) -> Result<(), RedirectUriError> {
    let well_formed = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
    let taken = TAKEN.contains(&scheme) || TAKEN_PREFIXES.iter().any(|prefix| scheme.starts_with(prefix));
    if well_formed && !taken { Ok(()) } else { Err(RedirectUriError::Scheme) }
}

/// The scheme of a redirect URI that leads to a program by it.
pub fn scheme(uri: &str) -> Option<&str> {
    let (scheme, _) = uri.split_once(':')?;
    check_scheme(scheme).is_ok().then_some(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURSOR: &str = "cursor://anysphere.cursor-mcp/oauth/callback";

    #[test]
    fn an_operator_may_write_any_scheme_that_a_program_can_claim() {
        for uri in
            [CURSOR, "com.example.app:/oauth2redirect", "vscode://vscode.git/callback?x=1", "https://a.example/b"]
        {
            assert_eq!(check(uri, AdmittedSchemes::Any), Ok(()), "{uri}");
        }
        for (uri, error) in [
            ("javascript://x/%0aalert(1)", RedirectUriError::Scheme),
            ("data:/text", RedirectUriError::Scheme),
            ("file:///etc/passwd", RedirectUriError::Scheme),
            ("ms-settings://x/", RedirectUriError::Scheme),
            ("wss://x/", RedirectUriError::Scheme),
            ("Cursor://anysphere.cursor-mcp/oauth/callback", RedirectUriError::Scheme),
            ("cursor:callback", RedirectUriError::NotAbsolute),
            ("cursor://user@host/", RedirectUriError::UserInfo),
            ("cursor://host/a/../b", RedirectUriError::NotNormal),
            ("cursor://host/#x", RedirectUriError::Fragment),
            ("cursor://host/*", RedirectUriError::Wildcard),
            ("cursor://host/ x", RedirectUriError::Character),
            ("cursor://host/callback?x=1&code=2", RedirectUriError::AnswerParameter),
            ("http://mcp.example.com/", RedirectUriError::Insecure),
        ] {
            assert_eq!(check(uri, AdmittedSchemes::Any), Err(error), "{uri}");
        }
    }

    #[test]
    fn only_named_schemes_are_let_in_by_registration() {
        let named = ["cursor".to_owned()];
        assert_eq!(check(CURSOR, AdmittedSchemes::Named(&named)), Ok(()));
        assert_eq!(check("vscode://x/", AdmittedSchemes::Named(&named)), Err(RedirectUriError::Scheme));
        assert_eq!(check(CURSOR, AdmittedSchemes::Named(&[])), Err(RedirectUriError::Scheme));
        let script = ["javascript".to_owned()];
        assert_eq!(check("javascript://x/", AdmittedSchemes::Named(&script)), Err(RedirectUriError::Scheme));
    }
}
