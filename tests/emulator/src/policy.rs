//! Conditional access and consent, as they meet a grant that has no page to show.

use super::config::{Application, Config, Requirement, User};
use super::errors::{self, Refusal};
use super::resources::{Asked, Resource, Target};
use super::sign_in;
use super::state::Grant;
use super::tenants;
use super::world::World;

/// The id of the policy that claims challenges name.
const POLICY_ID: &str = "d0000000-0000-4000-a000-0000000000ca";

/// Which way a refusal goes: the same code is `invalid_grant` to a client whose user is near, and `interaction_required`
/// with claims to a middle tier, which has to pass the claims on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Through {
    Grant,
    OnBehalfOf,
}

/// The claims by which a client asks for a sign-in that satisfies the policy.
pub(crate) fn claims() -> String {
    format!("{{\"access_token\":{{\"capolids\":{{\"essential\":true,\"values\":[\"{POLICY_ID}\"]}}}}}}")
}

/// The claims by which a client asks for the authentication context `c1`.
pub(crate) fn context_claims() -> String {
    r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#.to_owned()
}

/// Refuses what the user's policies do not allow without a page.
pub(crate) fn check(
    user: &User,
    with_mfa: bool,
    wants_mfa: bool,
    target: &Target,
    through: Through,
) -> Result<(), Refusal> {
    let resource = target.resource.id();
    let protected = matches!(&target.resource, Resource::Application(application) if application.protected);
    let on_behalf = through == Through::OnBehalfOf;
    let mfa = |codes: [&'static errors::Aadsts; 2], text: String| {
        let [direct, behalf] = codes;
        Err((if on_behalf { behalf } else { direct }).because(text).with_claims(claims()))
    };
    match user.must {
        Requirement::BeEnabled => Err(errors::USER_DISABLED.because("The user account is disabled.")),
        Requirement::ChangePassword => Err(errors::PASSWORD_EXPIRED.because("The password is expired.")),
        Requirement::UseCompliantDevice => {
            let code = if on_behalf { &errors::CONDITIONAL_ACCESS_ON_BEHALF } else { &errors::CONDITIONAL_ACCESS };
            Err(code.because(sign_in::CONDITIONAL_ACCESS_TEXT).with_claims(claims()))
        }
        Requirement::EnrolMfa if !with_mfa => {
            mfa([&errors::MFA_ENROLMENT_REQUIRED, &errors::MFA_ENROLMENT_ON_BEHALF], sign_in::enrolment_text(resource))
        }
        Requirement::UseMfa if !with_mfa => {
            mfa([&errors::MFA_REQUIRED, &errors::MFA_REQUIRED_ON_BEHALF], sign_in::mfa_text(resource))
        }
        Requirement::StepUpForProtected if protected && !with_mfa => {
            mfa([&errors::MFA_REQUIRED, &errors::MFA_REQUIRED_ON_BEHALF], sign_in::mfa_text(resource))
        }
        Requirement::AuthenticationContext if wants_mfa && !with_mfa => {
            let code = if on_behalf { &errors::MFA_REQUIRED_ON_BEHALF } else { &errors::MFA_REQUIRED };
            Err(code.because(sign_in::mfa_text(resource)).with_claims(context_claims()))
        }
        _ if wants_mfa && !with_mfa => {
            mfa([&errors::MFA_REQUIRED, &errors::MFA_REQUIRED_ON_BEHALF], sign_in::mfa_text(resource))
        }
        _ => Ok(()),
    }
}

/// Refuses permissions that lack consent.
pub(crate) fn check_consent(
    world: &World,
    config: &Config,
    user: &User,
    grant: &Grant,
    client: &Application,
    asked: &Asked,
) -> Result<(), Refusal> {
    let tenant = config.tenant(&grant.tenant).ok_or_else(|| tenants::unknown_tenant(&grant.tenant))?;
    let wanted = sign_in::unconsented(world, user, tenant, client, asked);
    match wanted.iter().find(|permission| permission.administrator) {
        Some(_) => Err(errors::ADMIN_CONSENT_FOR_GRANT.because(format!(
            "{} needs permission to access resources in your organization that only an admin can grant.",
            client.name
        ))),
        None if !wanted.is_empty() => Err(errors::CONSENT_REQUIRED.because(sign_in::consent_text(client))),
        None => Ok(()),
    }
}
