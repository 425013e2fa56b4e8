//! The generated bindings of the component's world, and the conversions to and from [`entra::token`].

use base::principal::{Groups, Principal, PrincipalKind};
use base::settings_document::SettingsDocumentError;
use entra::token::{Category, Fact, Requirements, TokenError};

use self::exports::entra_mcp::plugin::types as wit;

/// The bindings of one of the two worlds; the interfaces of WASI that it imports are those of the crate `wasip2`.
macro_rules! bindings {
    ($world:literal, $($with:tt)*) => {
        #[allow(missing_docs, unsafe_code, clippy::all, clippy::restriction, reason = "generated code")]
        mod generated {
            wit_bindgen::generate!({
                path: "../../wit",
                world: $world,
                generate_all,
                with: {
                    "wasi:clocks/wall-clock@0.2.12": wasip2::clocks::wall_clock,
                    "wasi:random/random@0.2.12": wasip2::random::random,
                    "wasi:random/insecure-seed@0.2.12": wasip2::random::insecure_seed,
                    $($with)*
                },
                pub_export_macro: true,
                default_bindings_module: "crate::bindings",
            });
        }
    };
}

#[cfg(feature = "http")]
bindings!(
    "standalone-validator",
    "wasi:io/error@0.2.12": wasip2::io::error,
    "wasi:io/poll@0.2.12": wasip2::io::poll,
    "wasi:io/streams@0.2.12": wasip2::io::streams,
    "wasi:clocks/monotonic-clock@0.2.12": wasip2::clocks::monotonic_clock,
    "wasi:http/types@0.2.12": wasip2::http::types,
    "wasi:http/outgoing-handler@0.2.12": wasip2::http::outgoing_handler,
);
#[cfg(not(feature = "http"))]
bindings!("standalone-validator-with-keys",);

pub(crate) use generated::exports::entra_mcp::plugin as verdicts;
pub(crate) use generated::{export, exports};

impl From<wit::Requirements> for Requirements {
    fn from(needs: wit::Requirements) -> Self {
        let wit::Requirements { all_scopes, any_role, any_group, kind, any_client } = needs;
        let kind = kind.map(|kind| match kind {
            wit::PrincipalKind::User => PrincipalKind::User,
            wit::PrincipalKind::App => PrincipalKind::App,
        });
        Self { all_scopes, any_role, any_group, kind, any_client }
    }
}

impl From<Principal> for wit::Principal {
    fn from(principal: Principal) -> Self {
        Self {
            tenant_id: principal.tenant_id,
            object_id: principal.object_id,
            subject: principal.subject,
            client_id: principal.client_id,
            kind: match principal.kind {
                PrincipalKind::User => wit::PrincipalKind::User,
                PrincipalKind::App => wit::PrincipalKind::App,
            },
            scopes: principal.scopes,
            roles: principal.roles,
            groups: match principal.groups {
                Groups::Absent => wit::Groups::Absent,
                Groups::Listed(groups) => wit::Groups::Listed(groups),
                Groups::Overage => wit::Groups::Overage,
            },
            issued_at_unix_seconds: principal.issued_at,
            expires_at_unix_seconds: principal.expires_at,
            guest: principal.guest,
            token_version: principal.token_version,
            token_id: principal.token_id,
        }
    }
}

impl From<TokenError> for wit::TokenError {
    fn from(error: TokenError) -> Self {
        Self {
            category: match error.category() {
                Category::Malformed => wit::TokenErrorCategory::Malformed,
                Category::Untrusted => wit::TokenErrorCategory::Untrusted,
                Category::NotCurrent => wit::TokenErrorCategory::NotCurrent,
                Category::Forbidden => wit::TokenErrorCategory::Forbidden,
                Category::Unavailable => wit::TokenErrorCategory::Unavailable,
                Category::Misconfigured => wit::TokenErrorCategory::Misconfigured,
            },
            code: error.reason().to_owned(),
            message: error.public_text().to_owned(),
            challenge: error.challenge().map(|challenge| wit::Challenge {
                error: challenge.error.map(str::to_owned),
                scopes: challenge.scopes,
            }),
            retry_after_seconds: error.retry_after_seconds(),
            evidence: error.into_evidence().into_iter().map(|(name, fact)| (name.to_owned(), fact.into())).collect(),
        }
    }
}

impl From<Fact> for wit::AttributeValue {
    fn from(fact: Fact) -> Self {
        match fact {
            Fact::Text(text) => Self::Text(text),
            Fact::Number(number) => Self::Number(number),
            Fact::Texts(texts) => Self::Texts(texts),
        }
    }
}

/// Settings that are none: what is wrong is for the developer of the host.
pub(crate) fn unreadable(error: SettingsDocumentError) -> wit::TokenError {
    let fault = wit::AttributeValue::Text(error.to_string());
    let mut unreadable: wit::TokenError = TokenError::ConfigurationInvalid { setting: "settings".to_owned() }.into();
    unreadable.evidence.push(("fault".to_owned(), fault));
    unreadable
}
