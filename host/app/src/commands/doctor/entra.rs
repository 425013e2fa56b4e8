//! Entra ID and Graph: the way there, and what the component itself finds when it asks.

use std::sync::Arc;

use entra_mcp_plugin::client_credential::{ClientCertificates, ClientCredential, VaultCertificate};
use entra_mcp_plugin::clock::Clock;
use entra_mcp_plugin::environment::Settings;
use entra_mcp_plugin::key_vault::VaultObject;
use entra_mcp_plugin::lifecycle::{Problem, Subject};
use entra_mcp_plugin::outbound_http::{OutboundHttp, OutboundPolicy};
use entra_mcp_plugin::random::SystemRandomness;
use entra_mcp_plugin::secret_store::{MemoryStore, SecretStore};
use entra_mcp_plugin::{Error, Plugin};
use url::Url;

use super::report::Finding;
use crate::composition::client_credential::{self, Chosen, word};
use crate::composition::key_vault::key_vault;
use crate::config::{Config, CredentialName, ServeConfig, VaultAccess};
use crate::probe::Probe;

/// A certificate that expires sooner than this is worth a warning, in seconds: 30 days.
const EXPIRES_SOON_SECONDS: u64 = 30 * 24 * 60 * 60;

/// From this difference on, in seconds, clocks do not agree: the same as in the component.
const NOTICEABLE_SECONDS: u64 = 30;

const SECONDS_OF_A_DAY: u64 = 24 * 60 * 60;

/// Names, connections and certificates of Entra ID and Graph. Whether Entra ID can be reached.
pub(super) async fn way(probe: &Probe, (authority, graph): (&str, &str), now: u64) -> (Vec<Finding>, bool) {
    let (mut findings, mut reached) = (Vec::new(), false);
    for (url, role, setting) in
        [(authority, "Entra ID", "--cloud or --authority"), (graph, "Microsoft Graph", "--graph-url")]
    {
        let Ok(url) = Url::parse(url) else { continue };
        let (found, answers) = probe.way_to(&url, role, setting, now).await;
        findings.extend(found);
        reached |= answers && role == "Entra ID";
    }
    (findings, reached)
}

/// The credential as far as this machine knows it.
pub(super) async fn credential(
    config: &ServeConfig,
    settings: &Settings,
    store: &Arc<dyn SecretStore>,
    clock: &Arc<dyn Clock>,
) -> (Vec<Finding>, Option<Arc<dyn ClientCredential>>) {
    let Chosen { name, source, credential, others } =
        client_credential::choose(&config.credential, settings, store, clock).await;
    let mut findings: Vec<_> = others
        .iter()
        .map(|(name, reason)| Finding::skipped("credential", format!("{} is not used: {reason}", word(*name))))
        .collect();
    let credential = match credential {
        Ok(credential) => credential,
        Err(error) => {
            let what = match name {
                None => "there is no credential for the application".to_owned(),
                Some(_) => error.to_string(),
            };
            let change = "configure one of them: --certificate-file, --certificate-vault-url, AZURE_CLIENT_SECRET, AZURE_FEDERATED_TOKEN_FILE, or a \
                          managed identity";
            findings.push(Finding::failure("credential", what, change));
            return (findings, None);
        }
    };
    if name == Some(CredentialName::Certificate) && !config.credential.certificates.is_empty() {
        findings.extend(certificates(config, settings, clock));
    }
    if let (Some(CredentialName::Certificate), Some((object, access))) = (name, &config.credential.vault_certificate) {
        findings.extend(vault_certificate(object, access, settings, clock).await);
    }
    match credential.obtain(&client_credential::token_endpoint(settings)).await {
        Ok(_) => {
            let word = name.map(word).unwrap_or_default();
            findings.push(Finding::good("credential", format!("{word}: {source}")));
            (findings, Some(credential))
        }
        Err(error) => {
            let sentence = error.to_string();
            let sentence = sentence.strip_prefix("the client credential is unavailable: ").unwrap_or(&sentence);
            findings.push(Finding::of_sentence(
                "credential",
                sentence,
                "correct the setting or the file that it names",
            ));
            (findings, None)
        }
    }
}

/// The thumbprints are what is compared with the portal.
fn certificates(config: &ServeConfig, settings: &Settings, clock: &Arc<dyn Clock>) -> Vec<Finding> {
    let files = ClientCertificates::new(
        &settings.client_id,
        &config.credential.certificates,
        config.credential.certificate_password.clone(),
        Arc::clone(clock),
        Arc::new(SystemRandomness::default()),
    );
    let usable = files.usable().unwrap_or_default();
    let mut findings: Vec<_> = usable
        .iter()
        .map(|facts| {
            let of = format!("the certificate in {}", facts.path.display());
            let change = "make a new one, upload it under Certificates & secrets in the app registration, and name its \
                          file with --certificate-file besides this one";
            age(&of, &facts.thumbprint, facts.not_after, clock, change)
        })
        .collect();
    // Without a usable one, the credential says it.
    if !usable.is_empty() {
        let otherwise = "correct --certificate-file, or make a new certificate";
        let fault = |fault: &dyn std::fmt::Display| Finding::of_sentence("certificate", &fault.to_string(), otherwise);
        findings.extend(files.faults().iter().map(|found| fault(found)));
    }
    findings
}

/// How long a certificate is good for.
fn age(of: &str, thumbprint: &str, not_after: u64, clock: &Arc<dyn Clock>, change: &str) -> Finding {
    let left = not_after.saturating_sub(clock.now_seconds());
    let what = format!("{of} (thumbprint {thumbprint}) is good for {} days", left / SECONDS_OF_A_DAY);
    if left < EXPIRES_SOON_SECONDS {
        Finding::warning("certificate", what, change)
    } else {
        Finding::good("certificate", what)
    }
}

/// The same of a certificate in a vault. What is wrong with one that cannot be used, the credential says.
async fn vault_certificate(
    object: &VaultObject,
    access: &VaultAccess,
    settings: &Settings,
    clock: &Arc<dyn Clock>,
) -> Option<Finding> {
    let vault = key_vault(object, access, clock).ok()?;
    let random = Arc::new(SystemRandomness::default());
    let certificate = VaultCertificate::new(vault, object.clone(), &settings.client_id, Arc::clone(clock), random);
    let facts = certificate.facts().await.ok()?;
    let change = "make a new version in the vault (or see why its rotation policy made none), and upload it under Certificates \
                  & secrets in the app registration";
    Some(age(&format!("the certificate {object}"), &facts.thumbprint, facts.not_after, clock, change))
}

/// The component with a store of its own, so that nothing of the doctor's questions stays behind.
pub(super) fn plugin(
    config: &Config,
    settings: Settings,
    credential: Option<Arc<dyn ClientCredential>>,
    clock: &Arc<dyn Clock>,
) -> Result<Plugin, Error> {
    let policy = OutboundPolicy::new([settings.authority.as_str(), settings.graph.as_str()])?;
    let http = OutboundHttp::new(policy, config.ca_file.as_deref())?;
    let mut builder = Plugin::builder(settings)
        .clock(Arc::clone(clock))
        .secret_store(Arc::new(MemoryStore::new(Arc::clone(clock))))
        .outbound_http(http)
        .code_cache(config.host.code_cache.clone());
    if let Some(credential) = credential {
        builder = builder.client_credential(credential);
    }
    builder.build()
}

/// What the component finds.
pub(super) struct EntraFindings {
    /// Of Entra ID: the clock, metadata, keys.
    pub(super) authority: Vec<Finding>,
    /// Of the credential: whether Entra ID gives a token for it.
    pub(super) token: Vec<Finding>,
}

/// What a look at Entra ID begins with.
pub(super) struct EntraQuestion<'a> {
    pub(super) plugin: &'a Plugin,
    pub(super) probe: &'a Probe,
    pub(super) settings: &'a Settings,
    pub(super) has_credential: bool,
    pub(super) clock: &'a dyn Clock,
}

impl EntraQuestion<'_> {
    /// Asks Entra ID through the component.
    pub(super) async fn ask(&self) -> EntraFindings {
        let Self { plugin, settings, has_credential, .. } = self;
        let problems = match plugin.check_authority().await {
            Ok(problems) => problems,
            Err(error) => {
                let failed = Finding::failure("component", error.to_string(), "report it with the log");
                let what = "clock, metadata, keys and credential were not looked at: the component did not answer";
                return EntraFindings {
                    authority: vec![failed, Finding::skipped("metadata", what)],
                    token: Vec::new(),
                };
            }
        };
        let of = |subject: Subject| problems.iter().find(|problem| problem.about == subject);
        let tenant = &settings.tenant;
        let mut authority = vec![match of(Subject::Clock) {
            Some(problem) => found("clock", problem),
            None => self.compared_clocks().await,
        }];
        if let Some(problem) = of(Subject::Authority) {
            authority.push(found("metadata", problem));
            authority.push(Finding::skipped("keys", "the signing keys were not looked at: there is no tenant to ask"));
            let what = "the application was not tried: there is no tenant to ask";
            return EntraFindings { authority, token: vec![Finding::skipped("token", what)] };
        }
        let what = format!("the metadata of the tenant {tenant} has the issuer that its tokens will have");
        authority.push(Finding::good("metadata", what));
        authority.push(match of(Subject::SigningKeys) {
            Some(problem) => found("keys", problem),
            None => Finding::good("keys", "the signing keys of the tenant can be read"),
        });
        let token = match (of(Subject::ClientCredential), has_credential) {
            (_, false) => Finding::skipped("token", "the application was not tried: it has no credential here"),
            (Some(problem), true) => found("token", problem),
            (None, true) if ["common", "organizations", "consumers"].contains(&tenant.as_str()) => Finding::skipped(
                "token",
                format!("the application was not tried: {tenant} is no tenant that it is at home in"),
            ),
            (None, true) => {
                Finding::good("token", "Entra ID knows the application and its credential: it gave a token")
            }
        };
        EntraFindings { authority, token: vec![token] }
    }

    /// The component says it if the clocks differ, and is silent where they agree and where it has seen none. So it is known
    /// only from an answer with a `Date` (RFC 9110 section 6.6.1).
    async fn compared_clocks(&self) -> Finding {
        let Settings { authority, tenant, .. } = self.settings;
        let url = format!("{authority}/{tenant}/v2.0/.well-known/openid-configuration");
        let answer = self.probe.get(&url).await;
        let date = answer.as_ref().ok().and_then(|answer| answer.text("date"));
        of_clocks(date, self.clock.now_seconds())
    }
}

/// What the date of an answer says of the clock of this machine.
fn of_clocks(date: Option<&str>, now: u64) -> Finding {
    let there = date.and_then(|date| httpdate::parse_http_date(date).ok());
    let there = there.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok()).map(|since| since.as_secs());
    let Some(there) = there else {
        let what = "the clock of this machine was not compared: no answer of Entra ID with a `Date` was seen";
        return Finding::skipped("clock", what);
    };
    let difference = there.abs_diff(now);
    if difference <= NOTICEABLE_SECONDS {
        return Finding::good("clock", "the clock of this machine agrees with that of Entra ID");
    }
    let side = if there > now { "behind" } else { "ahead of" };
    Finding::failure(
        "clock",
        format!("this machine's clock is {difference} s {side} that of Microsoft Entra ID"),
        "correct the date and time of this machine",
    )
}

/// A problem with the place in the portal where it is mended.
fn found(id: &'static str, problem: &Problem) -> Finding {
    let mut finding =
        Finding::of_sentence(id, &problem.message, "see the log of the server for the rest of the answer");
    if let Some(place) = place(&problem.code) {
        let change = finding.change.take().map(|change| format!("{change} — ")).unwrap_or_default();
        finding.change = Some(format!("{change}In the portal: {place}"));
    }
    finding
}

/// Where in the portal something is changed.
fn place(code: &str) -> Option<&'static str> {
    Some(match code {
        "aadsts-7000215" | "aadsts-7000222" => "App registrations > your app > Certificates & secrets > Client secrets",
        "aadsts-700027" | "aadsts-700030" | "aadsts-7000216" => {
            "App registrations > your app > Certificates & secrets > Certificates"
        }
        "aadsts-700211" | "aadsts-700212" | "aadsts-700213" | "aadsts-700222" | "aadsts-700236" => {
            "App registrations > your app > Certificates & secrets > Federated credentials"
        }
        "aadsts-700025" => "App registrations > your app > Certificates & secrets",
        "aadsts-700016" | "aadsts-90002" | "aadsts-50059" => "App registrations > your app > Overview",
        "aadsts-7000112" => "Enterprise applications > your app > Properties > Enabled for users to sign-in",
        "aadsts-7000229" => "Enterprise applications: add the application to this tenant (admin consent)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::report::Severity;

    /// Thu, 01 Jan 2026 00:00:00 GMT.
    const NEW_YEAR: u64 = 1_767_225_600;

    #[test]
    fn clocks_agree_only_where_a_date_was_seen() {
        let severity = |date, now| {
            let found = of_clocks(date, now);
            assert_eq!(found.id, "clock");
            found.severity
        };
        let date = Some("Thu, 01 Jan 2026 00:00:00 GMT");
        assert_eq!(severity(date, NEW_YEAR + NOTICEABLE_SECONDS), Severity::Good);
        assert_eq!(severity(None, NEW_YEAR), Severity::Skipped);
        assert_eq!(severity(Some("yesterday"), NEW_YEAR), Severity::Skipped);
        for (now, side) in [(NEW_YEAR + 31, "31 s ahead of that"), (NEW_YEAR - 31, "31 s behind that")] {
            let found = of_clocks(date, now);
            assert!(found.severity == Severity::Failure && found.what.contains(side), "{found:?}");
        }
    }
}
