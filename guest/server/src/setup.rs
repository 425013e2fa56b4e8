//! Whether the settings can work, beyond their form.

use base::settings::{Mode, Settings};
use entra::check::{Problem, Subject};

use crate::authorization_server::clients;
use crate::gatekeeper::identity;
use crate::http::forward_auth;

/// What an operator has to correct before the server can serve.
pub fn problems(settings: &Settings) -> Vec<Problem> {
    let Mode::Remote(http) = &settings.mode else { return Vec::new() };
    let sentences = [clients::problems(http), identity::problems(settings), forward_auth::problems(settings, http)];
    sentences
        .into_iter()
        .flatten()
        .map(|message| Problem { about: Subject::Settings, code: "invalid".to_owned(), message })
        .collect()
}

#[cfg(test)]
mod tests {
    use base::settings::RegisteredClient;
    use world::testing::{http_settings, remote_settings};

    use super::*;

    fn with_redirect(uri: &str) -> Vec<String> {
        let mut settings = remote_settings();
        let mut http = http_settings();
        http.clients = vec![RegisteredClient {
            client_id: "cursor".to_owned(),
            name: "Cursor".to_owned(),
            redirect_uris: vec![uri.to_owned()],
            secret_hash: None,
        }];
        settings.mode = Mode::Remote(Box::new(http));
        problems(&settings).into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn redirect_uris_in_the_settings_are_checked_as_those_that_clients_register() {
        for good in
            ["https://app.example.com/back", "http://127.0.0.1/back", "cursor://anysphere.cursor-mcp/oauth/callback"]
        {
            assert_eq!(with_redirect(good), [""; 0], "{good}");
        }
        assert_eq!(
            with_redirect("http://app.example.com/back"),
            [
                "the client \"cursor\" in [[clients]] has the redirect URI \"http://app.example.com/back\": a redirect URI \
                 must be https, unless its host is localhost, 127.0.0.1 or [::1]"
            ]
        );
        for bad in
            ["https://app.example.com/#x", "https://*.example.com/", "javascript://x/", "HTTPS://app.example.com/"]
        {
            assert_eq!(with_redirect(bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_scheme_that_no_program_can_claim_cannot_be_let_in() {
        for (scheme, problems) in [("cursor", 0), ("https", 1), ("javascript", 1), ("cursor:", 1), ("Cursor", 1)] {
            let mut settings = remote_settings();
            let http =
                base::settings::HttpSettings { allowed_redirect_schemes: vec![scheme.to_owned()], ..http_settings() };
            settings.mode = Mode::Remote(Box::new(http));
            assert_eq!(super::problems(&settings).len(), problems, "{scheme}");
        }
    }
}
