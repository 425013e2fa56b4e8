//! The page on which a person's session with Entra ID ends (OpenID Connect RP-Initiated Logout 1.0).

use base::settings::Settings;
use url::Url;

use super::error::OAuthError;

/// The page for an account. `tenant_id` is the tenant in which it has signed in, `hint` its `login_hint`, so that the person
/// need not choose; `redirect_uri` is where the page leads afterwards.
pub fn url(
    settings: &Settings,
    tenant_id: &str,
    hint: Option<&str>,
    redirect_uri: Option<&str>,
) -> Result<String, OAuthError> {
    let page = format!("{}/{tenant_id}/oauth2/v2.0/logout", settings.authority);
    let mut url = Url::parse(&page).map_err(|_| OAuthError::Misconfigured("authority"))?;
    let given = [("logout_hint", hint), ("post_logout_redirect_uri", redirect_uri)];
    for (name, value) in given.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        url.query_pairs_mut().append_pair(name, value);
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use world::testing::{TENANT, World};

    use super::*;
    use crate::testing::EntraWorlds as _;

    #[test]
    fn the_page_has_what_is_known_and_nothing_else() {
        let env = World::default().entra();
        let page = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/logout");
        assert_eq!(url(env.settings, TENANT, None, None).unwrap(), page);
        assert_eq!(
            url(env.settings, TENANT, Some("O.CiQ&x"), Some("https://contoso.example/bye")).unwrap(),
            format!("{page}?logout_hint=O.CiQ%26x&post_logout_redirect_uri=https%3A%2F%2Fcontoso.example%2Fbye")
        );
    }
}
