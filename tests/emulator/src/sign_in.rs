//! The sign-in pages: account, password, second factor, consent.
//!
//! Each form posts to `/{tenant}/login` with the transaction's id and canary. [`next`] looks at what is still missing
//! and shows that page; when nothing is missing, the sign-in ends.

use super::answers::Ids;
use super::config::{Application, Config, GRAPH_APP_ID, MICROSOFT_SERVICES, Requirement, Tenant, User};
use super::errors::{self, Refusal};
use super::http::{Incoming, Params, Reply};
use super::pages::{self, Form};
use super::redirects;
use super::resources::{self, Asked, At, Permission};
use super::state::device_code::Outcome;
use super::state::transaction::{Progress, Prompt, Purpose, Transaction};
use super::state::{Code, Grant, SignedIn};
use super::tenants;
use super::world::World;

/// The cookie that names a browser's session.
pub(crate) const BROWSER_COOKIE: &str = "ESTSAUTH";
/// The one-time code every second factor accepts.
const MFA_CODE: &str = "123456";
/// Seconds a person has for the pages: the lifetime of request state in Entra ID.
const PAGES_EXPIRE_AFTER: i64 = 60 * 60;

/// Starts the pages for a checked request.
pub(crate) fn begin(world: &World, config: &Config, transaction: Transaction, incoming: &Incoming) -> Reply {
    let id = world.random.text::<24>();
    let cookie = world.cookie(BROWSER_COOKIE, &transaction.browser);
    next(world, config, &id, transaction, incoming, None).and("set-cookie", &cookie)
}

/// Serves a form of the pages.
pub(crate) fn submit(world: &World, incoming: &Incoming) -> Reply {
    let config = world.config();
    let form = incoming.form();
    let id = form.get("ctx").unwrap_or_default().to_owned();
    let found = world.state().transactions.get(&id).cloned();
    let valid = found.filter(|transaction| {
        form.get("canary") == Some(transaction.canary.as_str())
            && incoming.cookie(BROWSER_COOKIE) == Some(transaction.browser.as_str())
            && world.clock.now() - transaction.created <= PAGES_EXPIRE_AFTER
    });
    let Some(mut transaction) = valid else {
        let refusal = errors::REQUEST_EXPIRED
            .because("The sign-in request has expired or was started in another browser. Go back to the application and try again.");
        return pages::refusal(&refusal, &Ids::new(world, incoming), None);
    };
    match apply(world, &config, &mut transaction, &form, incoming) {
        Step::Next => next(world, &config, &id, transaction, incoming, None),
        Step::Again(problem) => next(world, &config, &id, transaction, incoming, Some(&problem)),
        Step::End(refusal) => end_refused(world, &id, &transaction, incoming, &refusal),
    }
}

enum Step {
    Next,
    /// The same page with what was wrong.
    Again(Refusal),
    End(Refusal),
}

fn apply(world: &World, config: &Config, transaction: &mut Transaction, form: &Params, incoming: &Incoming) -> Step {
    if let Some(account) = form.get("account") {
        let signed_in =
            accounts(world, config, &transaction.browser).into_iter().any(|(user, _)| user.username == account);
        if let Some(user) = config.user_named(account).filter(|_| signed_in) {
            transaction.progress.user = Some(user.id.clone());
        }
        return Step::Next;
    }
    match form.get("action").unwrap_or_default() {
        "other" => {
            transaction.progress = Progress { other_account: true, ..Default::default() };
            transaction.login_hint = None;
            Step::Next
        }
        "username" => {
            let username = form.get("loginfmt").unwrap_or_default();
            match config.user_named(username) {
                Some(user) => {
                    transaction.progress.user = Some(user.id.clone());
                    Step::Next
                }
                None => {
                    let tenant = transaction.authority.tenant(config).map_or("", |tenant| tenant.name.as_str());
                    Step::Again(tenants::no_such_user(username, tenant))
                }
            }
        }
        "password" => check_password(config, transaction, form),
        "mfa" => {
            if form.get("otc").is_some_and(|code| code.trim() == MFA_CODE) {
                transaction.progress.with_mfa = true;
                Step::Next
            } else {
                Step::Again(
                    errors::WRONG_MFA_CODE.because("Authentication failed during strong authentication request."),
                )
            }
        }
        "enrol" => {
            transaction.progress.with_mfa = true;
            Step::Next
        }
        "accept" => {
            transaction.progress.consented = true;
            if let Err(refusal) = record_consent(world, config, transaction, form.get("organization").is_some()) {
                return Step::End(refusal);
            }
            Step::Next
        }
        "decline" => Step::End(errors::CONSENT_DECLINED.because("User declined to consent to access the app.")),
        "confirm" => {
            transaction.progress.confirmed = true;
            Step::Next
        }
        "cancel" => match &transaction.purpose {
            // A person who cancels a device sign-in declines for the device.
            Purpose::Device { device_code } => {
                world.state().decide(device_code, Outcome::Declined);
                Step::End(errors::CONSENT_DECLINED.because("User declined to continue on the device."))
            }
            Purpose::Redirect(_) => Step::End(errors::CONSENT_DECLINED.because("User cancelled the sign-in.")),
        },
        // The way back from a page that refuses: the same checks run again, and their refusal goes to the application.
        "return" => match missing_or_grant(world, config, transaction) {
            Err(Missing::Refused(refusal)) => Step::End(refusal),
            _ => Step::Next,
        },
        _ => {
            let _ = incoming;
            Step::Next
        }
    }
}

fn check_password(config: &Config, transaction: &mut Transaction, form: &Params) -> Step {
    let Some(user) = transaction.progress.user.as_deref().and_then(|id| config.user(id)) else {
        return Step::Next;
    };
    if form.get("passwd") != Some(user.password.as_str()) {
        return Step::Again(
            errors::WRONG_PASSWORD.because("Error validating credentials due to invalid username or password."),
        );
    }
    match user.must {
        Requirement::BeEnabled => Step::Again(
            errors::USER_DISABLED
                .because("The user account is disabled. The account has been disabled by an administrator."),
        ),
        Requirement::ChangePassword => Step::Again(
            errors::PASSWORD_EXPIRED.because("The password is expired. The user must change it before signing in."),
        ),
        _ => {
            transaction.progress.password_given = true;
            Step::Next
        }
    }
}

/// What stands between a transaction and its end.
pub(crate) enum Missing {
    Account,
    Password,
    SecondFactor,
    Enrolment,
    Consent(Vec<Permission>),
    Confirmation,
    /// Nothing the person can do here helps.
    Refused(Refusal),
}

/// Everything that a finished sign-in has.
pub(crate) struct Finished {
    grant: Grant,
}

/// Decides what is missing, in the order in which Entra ID asks.
fn missing_or_grant(world: &World, config: &Config, transaction: &Transaction) -> Result<Finished, Missing> {
    let progress = &transaction.progress;
    let user = progress.user.as_deref().and_then(|id| config.user(id)).ok_or(Missing::Account)?;
    let client = config
        .application(&transaction.client)
        .ok_or_else(|| Missing::Refused(tenants::application_not_found(&transaction.client, "")))?;
    let tenant = transaction.authority.issuing_tenant(config, user, client).map_err(Missing::Refused)?;
    let session = session(world, config, transaction, user);
    let needs_password = matches!(transaction.prompt, Prompt::Login) || session.is_none();
    if needs_password && !progress.password_given {
        return Err(Missing::Password);
    }
    let with_mfa = progress.with_mfa || session.as_ref().is_some_and(|session| session.with_mfa);
    let asked = resources::parse(world, config, client, &transaction.scope, At::Authorize).map_err(Missing::Refused)?;
    match user.must {
        Requirement::UseMfa if !with_mfa => return Err(Missing::SecondFactor),
        Requirement::StepUpForProtected if !with_mfa && (transaction.wants_mfa || asks_protected(&asked)) => {
            return Err(Missing::SecondFactor);
        }
        Requirement::EnrolMfa if !with_mfa => return Err(Missing::Enrolment),
        Requirement::UseCompliantDevice => return Err(Missing::Refused(conditional_access_page())),
        _ if transaction.wants_mfa && !with_mfa => return Err(Missing::SecondFactor),
        _ => {}
    }
    if client.assignment_required && !user.roles.contains_key(&client.id) {
        return Err(Missing::Refused(not_assigned(client)));
    }
    let wanted = unconsented(world, user, tenant, client, &asked);
    if client.tenant == MICROSOFT_SERVICES && !wanted.is_empty() {
        return Err(Missing::Refused(preauthorization(client)));
    }
    let wanted = if transaction.prompt == Prompt::Consent { all_permissions(&asked) } else { wanted };
    if !progress.consented && (!wanted.is_empty() || (transaction.prompt == Prompt::Consent && asked.has("openid"))) {
        if wanted.iter().any(|permission| permission.administrator) && !user.administrator {
            return Err(Missing::Refused(admin_consent(client)));
        }
        return Err(Missing::Consent(wanted));
    }
    if matches!(transaction.purpose, Purpose::Device { .. }) && !progress.confirmed {
        return Err(Missing::Confirmation);
    }
    let now = world.clock.now();
    Ok(Finished {
        grant: Grant {
            user: user.id.clone(),
            tenant: tenant.id.clone(),
            client: client.id.clone(),
            signed_in_at: if progress.password_given {
                now
            } else {
                session.as_ref().map_or(now, |session| session.at)
            },
            with_mfa,
            contexts: transaction.contexts.clone(),
            session: session.map_or_else(|| world.random.guid(), |session| session.session),
            epoch: world.state().epoch(&user.id),
        },
    })
}

/// Shows the page for what is missing, or ends the sign-in.
fn next(
    world: &World,
    config: &Config,
    id: &str,
    mut transaction: Transaction,
    incoming: &Incoming,
    problem: Option<&Refusal>,
) -> Reply {
    choose_account(world, config, &mut transaction);
    let silent = transaction.prompt == Prompt::None;
    let client = config.application(&transaction.client);
    let name = client.map_or("the application", |client| client.name.as_str());
    let user = transaction.progress.user.as_deref().and_then(|id| config.user(id));
    let missing = match missing_or_grant(world, config, &transaction) {
        Ok(finished) => return finish(world, config, id, &transaction, finished.grant),
        Err(missing) => missing,
    };
    if silent {
        return end_refused(world, id, &transaction, incoming, &silent_refusal(&missing, client));
    }
    let form = Form {
        path: format!("/{}/login", transaction.authority.path_segment()),
        context: id,
        canary: &transaction.canary,
        problem,
    };
    let reply = match (missing, user) {
        (Missing::Refused(refusal), _) if is_about_account(&refusal) => {
            // The wrong account is no dead end: the person may choose another one.
            transaction.progress = Progress { other_account: true, ..Default::default() };
            transaction.login_hint = None;
            pages::username(&Form { problem: Some(&refusal), ..form }, name, "")
        }
        (Missing::Refused(refusal), _) => pages::refusal(&refusal, &Ids::new(world, incoming), Some((&form, name))),
        (Missing::Password, Some(user)) => pages::password(&form, &user.username),
        (Missing::SecondFactor, Some(user)) => pages::second_factor(&form, &user.username),
        (Missing::Enrolment, Some(user)) => pages::enrolment(&form, &user.username),
        (Missing::Consent(permissions), Some(user)) => {
            let tenant = transaction.authority.tenant(config).or_else(|| config.tenant(&user.tenant));
            pages::consent(&form, name, user, tenant.map_or("", |tenant| tenant.name.as_str()), &permissions)
        }
        (Missing::Confirmation, Some(user)) => pages::confirm_device(&form, name, &user.username),
        _ => {
            let known = accounts(world, config, &transaction.browser);
            if known.is_empty() || transaction.progress.other_account {
                let hint = transaction.login_hint.clone().unwrap_or_default();
                pages::username(&form, name, &hint)
            } else {
                pages::account_picker(&form, name, &known.iter().map(|(user, _)| *user).collect::<Vec<_>>())
            }
        }
    };
    world.state().transactions.insert(id.to_owned(), transaction);
    reply
}

/// Chooses the account where there is no choice: the hinted one, or the only one signed in.
fn choose_account(world: &World, config: &Config, transaction: &mut Transaction) {
    let progress = &transaction.progress;
    if progress.user.is_some() || progress.other_account || transaction.prompt == Prompt::SelectAccount {
        return;
    }
    let known = accounts(world, config, &transaction.browser);
    let hinted = transaction.login_hint.as_deref().and_then(|hint| config.user_named(hint));
    let chosen = match (hinted, known.as_slice()) {
        (Some(user), _) => Some(user),
        (None, [(user, _)]) if transaction.login_hint.is_none() && transaction.prompt != Prompt::Login => Some(*user),
        _ => None,
    };
    transaction.progress.user = chosen.map(|user| user.id.clone());
}

/// The accounts with a live session in this browser.
fn accounts<'a>(world: &World, config: &'a Config, browser: &str) -> Vec<(&'a User, SignedIn)> {
    let oldest = world.clock.now().saturating_sub(config.policy.browser_session);
    let signed_in = world.state().browsers.get(browser).cloned().unwrap_or_default();
    signed_in
        .into_iter()
        .filter(|session| session.at >= oldest)
        .filter_map(|session| Some((config.user(&session.user)?, session)))
        .collect()
}

fn session(world: &World, config: &Config, transaction: &Transaction, user: &User) -> Option<SignedIn> {
    accounts(world, config, &transaction.browser)
        .into_iter()
        .find(|(known, _)| known.id == user.id)
        .map(|(_, session)| session)
}

fn is_about_account(refusal: &Refusal) -> bool {
    refusal.code.number == errors::USER_OF_OTHER_TENANT.number
}

fn asks_protected(asked: &Asked) -> bool {
    asked
        .targets
        .iter()
        .any(|target| matches!(&target.resource, resources::Resource::Application(resource) if resource.protected))
}

fn all_permissions(asked: &Asked) -> Vec<Permission> {
    asked.targets.iter().flat_map(|target| target.permissions.iter().cloned()).collect()
}

/// Whether a full scope names this permission.
fn is_of(world: &World, target: &resources::Target, permission: &Permission, scope: &str) -> bool {
    let Some((resource, name)) = scope.rsplit_once('/') else { return false };
    let resource = resources::resource(world, &world.config(), resource);
    name == permission.name && resource.is_some_and(|resource| resource.id() == target.resource.id())
}

/// The permissions this user (or the organization) has not consented to yet.
pub(crate) fn unconsented(
    world: &World,
    user: &User,
    tenant: &Tenant,
    client: &Application,
    asked: &Asked,
) -> Vec<Permission> {
    let state = world.state();
    let mut wanted = Vec::new();
    for target in &asked.targets {
        for permission in &target.permissions {
            let scope = format!("{}/{}", target.resource.id(), permission.name);
            let given = |who: &str| {
                state.consents.contains(&(who.to_owned(), tenant.id.clone(), client.id.clone(), scope.clone()))
            };
            // A registration's own configured permissions count as consented to, unless it or the user asks.
            let configured = client.consent_given && !user.asks_consent && !permission.administrator;
            let preauthorized = client.preauthorized.iter().any(|scope| is_of(world, target, permission, scope));
            if !configured && !preauthorized && !given(&user.id) && !given("*") {
                wanted.push(permission.clone());
            }
        }
    }
    wanted
}

fn record_consent(
    world: &World,
    config: &Config,
    transaction: &Transaction,
    for_organization: bool,
) -> Result<(), Refusal> {
    let Some(user) = transaction.progress.user.as_deref().and_then(|id| config.user(id)) else {
        return Ok(());
    };
    let Some(client) = config.application(&transaction.client) else {
        return Ok(());
    };
    let tenant = transaction.authority.issuing_tenant(config, user, client)?;
    let asked = resources::parse(world, config, client, &transaction.scope, At::Authorize)?;
    let who = if for_organization && user.administrator { "*" } else { user.id.as_str() };
    let mut state = world.state();
    for target in &asked.targets {
        for permission in &target.permissions {
            if permission.administrator && !user.administrator {
                return Err(admin_consent(client));
            }
            let scope = format!("{}/{}", target.resource.id(), permission.name);
            state.consents.insert((who.to_owned(), tenant.id.clone(), client.id.clone(), scope));
        }
    }
    Ok(())
}

fn finish(world: &World, config: &Config, id: &str, transaction: &Transaction, grant: Grant) -> Reply {
    let mut state = world.state();
    state.transactions.remove(id);
    let mut accounts = state.browsers.get(&transaction.browser).cloned().unwrap_or_default();
    accounts.retain(|account| account.user != grant.user);
    accounts.push(SignedIn {
        user: grant.user.clone(),
        at: grant.signed_in_at,
        with_mfa: grant.with_mfa,
        session: grant.session.clone(),
    });
    state.browsers.insert(transaction.browser.clone(), accounts);
    match &transaction.purpose {
        Purpose::Device { device_code } => {
            drop(state);
            world.state().decide(device_code, Outcome::Approved(grant));
            let name = config.application(&transaction.client).map_or("the application", |client| client.name.as_str());
            Reply::html(http::StatusCode::OK, pages::device_done(name))
        }
        Purpose::Redirect(redirect) => {
            let code = format!("1.A{}.{}", world.random.text::<24>(), world.random.text::<192>());
            let session = grant.session.clone();
            state.codes.insert(
                code.clone(),
                Code {
                    grant,
                    redirect_uri: redirect.uri.clone(),
                    platform: redirect.platform,
                    challenge: redirect.challenge.clone(),
                    nonce: redirect.nonce.clone(),
                    scope: transaction.scope.clone(),
                    expires: world.clock.now() + config.policy.authorization_code,
                    redeemed: false,
                },
            );
            drop(state);
            redirects::send(world, redirect, vec![("code".to_owned(), code), ("session_state".to_owned(), session)])
        }
    }
}

fn end_refused(world: &World, id: &str, transaction: &Transaction, incoming: &Incoming, refusal: &Refusal) -> Reply {
    world.state().transactions.remove(id);
    match &transaction.purpose {
        Purpose::Redirect(redirect) => redirects::send_error(world, incoming, redirect, refusal),
        Purpose::Device { .. } => pages::refusal(refusal, &Ids::new(world, incoming), None),
    }
}

/// What `prompt=none` answers where a page would have been shown.
fn silent_refusal(missing: &Missing, client: Option<&Application>) -> Refusal {
    match missing {
        Missing::Account | Missing::Password => {
            errors::NO_SESSION.because("A silent sign-in request was sent but no user is signed in.")
        }
        Missing::SecondFactor => Refusal {
            code: &errors::MFA_REQUIRED_ON_BEHALF,
            ..errors::MFA_REQUIRED.because(mfa_text(client.map_or("", |client| client.id.as_str())))
        },
        Missing::Enrolment => Refusal {
            code: &errors::MFA_ENROLMENT_ON_BEHALF,
            ..errors::MFA_ENROLMENT_REQUIRED.because(enrolment_text(client.map_or("", |client| client.id.as_str())))
        },
        Missing::Consent(_) => errors::CONSENT_NEEDS_PAGE.because(client.map_or_else(String::new, consent_text)),
        Missing::Confirmation => errors::NO_SESSION.because("A silent sign-in request cannot confirm a device."),
        Missing::Refused(refusal) => refusal.clone(),
    }
}

pub(crate) fn mfa_text(resource: &str) -> String {
    format!(
        "Due to a configuration change made by your administrator, or because you moved to a new location, you must use \
         multi-factor authentication to access '{resource}'."
    )
}

pub(crate) fn enrolment_text(resource: &str) -> String {
    format!(
        "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll \
         in multi-factor authentication to access '{resource}'."
    )
}

pub(crate) fn consent_text(client: &Application) -> String {
    format!(
        "The user or administrator has not consented to use the application with ID '{}' named '{}'. Send an interactive \
         authorization request for this user and resource.",
        client.id, client.name
    )
}

pub(crate) const CONDITIONAL_ACCESS_TEXT: &str =
    "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.";

fn conditional_access_page() -> Refusal {
    errors::CONDITIONAL_ACCESS_PAGE.because(CONDITIONAL_ACCESS_TEXT)
}

fn not_assigned(client: &Application) -> Refusal {
    errors::NOT_ASSIGNED.because(format!(
        "Your administrator has configured the application {} ('{}') to block users unless they are specifically granted \
         ('assigned') access to the application. The signed-in user is blocked because they are not a direct member of a \
         group with access, nor had access directly assigned by an administrator.",
        client.name, client.id
    ))
}

/// An application of Microsoft, without the permission that no person can give it.
fn preauthorization(client: &Application) -> Refusal {
    errors::PREAUTHORIZATION_REQUIRED.because(format!(
        "Consent between first party application '{}' and first party resource '{GRAPH_APP_ID}' must be configured via \
         preauthorization - applications owned and operated by Microsoft must get approval from the API owner before \
         requesting tokens for that API.",
        client.id
    ))
}

fn admin_consent(client: &Application) -> Refusal {
    errors::ADMIN_CONSENT_REQUIRED.because(format!(
        "{} needs permission to access resources in your organization that only an admin can grant. Please ask an admin to \
         grant permission to this app before you can use it.",
        client.name
    ))
}
