//! The layers of this machine, in the order in which they fail in practice: settings, files, store, the way to Entra ID and
//! what it answers, the credential, the app registration. A credential comes behind the way and the tenant, because without
//! them its refusal says nothing of it.

use std::sync::Arc;

use entra_mcp_plugin::client_credential::secret_record;
use entra_mcp_plugin::clock::Clock;
use entra_mcp_plugin::environment::Settings;
use entra_mcp_plugin::secret_store::{MemoryStore, SecretStore};

use super::entra::{EntraFindings, EntraQuestion};
use super::report::{Finding, Report};
use super::{Here, entra, local, network, registration, store};
use crate::config::{Config, ConfigError, ServeConfig, Sources, StoreConfig, StoreLocation, Usable};
use crate::probe::Probe;

/// What `serve` makes and changes, and what `stdio` does, in words.
const SERVE: &str = "entra-mcp serve";
const STDIO: &str = "entra-mcp stdio";

/// Whose settings these are.
enum Meant<'a> {
    /// Those of the remote server.
    Remote(&'a ServeConfig),
    /// Those of the local one, which has no credential.
    Local(&'a Config),
    /// What is wrong with them may concern the credential: Entra ID is asked what it tells everyone, if it can be.
    Unknown(Option<&'a Config>),
}

/// Looks at all layers of this machine. `is_visit`: without a tenant, the deployed server alone is looked at.
pub(super) async fn looked_at(
    mut sources: Sources,
    is_visit: bool,
    clock: &Arc<dyn Clock>,
    report: &mut Report,
) -> Here {
    let files = sources.files();
    let mut settings = local::settings(&sources);
    let usable = sources.usable();
    // A server of others is visited from a machine that is not configured.
    if is_visit && matches!(usable.errors.as_slice(), [ConfigError::Missing { .. }]) {
        let what = "no tenant id and no client id are set, so doctor tests only the deployed server";
        report.add("This machine", vec![Finding::skipped("settings", what)]);
        return Here { ca_file: usable.ca_file, ..Here::default() };
    }
    settings.extend(usable.errors.iter().map(local::unusable));
    settings.extend(consequence(&usable));
    report.add("Settings", settings);
    report.add("Files", local::files(&files));
    let (records, is_local) = stores(&usable, clock, report).await;
    let meant = match (&usable.local, &usable.serve) {
        (Some(config), _) if is_local => Meant::Local(config),
        (_, Some(config)) => Meant::Remote(config),
        _ => Meant::Unknown(usable.common.as_ref()),
    };
    let (settings, plugin) = authority(&usable, &meant, &records, clock, report).await;
    Here { settings, plugin, ca_file: usable.ca_file }
}

/// What was not looked at because of wrong settings, and what was looked at without them.
fn consequence(usable: &Usable) -> Option<Finding> {
    if usable.errors.is_empty() {
        return None;
    }
    Some(Finding::skipped(
        "settings",
        match usable.serve {
            Some(_) => "everything below was looked at with the defaults of the settings that are wrong",
            None => {
                "below, what does not depend on the settings that are wrong was looked at; when they are correct, look again"
            }
        },
    ))
}

/// The store of the server or of the person. Its records, and whether the settings are those of the local server.
async fn stores(usable: &Usable, clock: &Arc<dyn Clock>, report: &mut Report) -> (Arc<dyn SecretStore>, bool) {
    let none = || -> Arc<dyn SecretStore> { Arc::new(MemoryStore::new(Arc::clone(clock))) };
    let Some(config) = &usable.store else {
        let what = "the store was not looked at: correct its settings first";
        report.add("Store", vec![Finding::skipped("store", what)]);
        return (none(), false);
    };
    let command = if usable.local.is_some() { STDIO } else { SERVE };
    let (mut findings, records) = store::looked_at(config, command, clock).await;
    let Some(own) = &usable.local else {
        report.add("Store", findings);
        return (records, false);
    };
    // A secret in the store of the server is for a server.
    let secret = records.get(&secret_record(&own.settings.client_id)).await;
    let is_local = !matches!(secret, Ok(Some(_)));
    if !is_local {
        findings = store::looked_at(config, SERVE, clock).await.0;
    } else if !is_same(&own.store, config) {
        findings = store::looked_at(&own.store, STDIO, clock).await.0;
    }
    report.add("Store", findings);
    (records, is_local)
}

fn is_same(one: &StoreConfig, other: &StoreConfig) -> bool {
    one.location == other.location && !matches!(one.location, StoreLocation::Memory)
}

/// Entra ID, the credential and the app registration.
async fn authority(
    usable: &Usable,
    meant: &Meant<'_>,
    records: &Arc<dyn SecretStore>,
    clock: &Arc<dyn Clock>,
    report: &mut Report,
) -> (Option<Settings>, Option<entra_mcp_plugin::Plugin>) {
    let (common, settings) = match meant {
        Meant::Remote(config) => (Some(&config.common), Some(config.settings(config.listen))),
        Meant::Local(config) => (Some(*config), Some(config.settings.clone())),
        Meant::Unknown(common) => (*common, common.map(|config| config.settings.clone())),
    };
    let mut found = Vec::new();
    let probe = match Probe::new(usable.ca_file.as_deref()) {
        Ok(probe) => Some(probe),
        Err(reason) => {
            found.push(network::no_tls(&reason));
            None
        }
    };
    let mut reached = false;
    match (&probe, &usable.endpoints) {
        (Some(probe), Some((authority, graph))) => {
            let (way, answers) = entra::way(probe, (authority, graph), clock.now_seconds()).await;
            found.extend(way);
            reached = answers;
        }
        (None, _) => {}
        (_, None) => {
            let what =
                "the way to Entra ID was not looked at: correct --cloud, --authority, --graph-url and --graph-resource";
            found.push(Finding::skipped("connect", what));
        }
    }
    let (mut of_credential, credential) = match (meant, &settings) {
        (Meant::Remote(config), Some(settings)) => entra::credential(config, settings, records, clock).await,
        (Meant::Local(_), _) => {
            let what = "no credential is set, and `entra-mcp stdio` needs none, because people sign in themselves; to look at a \
                        server that listens on this machine alone, pass --credential or --listen";
            (vec![Finding::skipped("credential", what)], None)
        }
        _ => {
            let what = "the credential was not looked at: correct the settings first, so that it is sent nowhere else";
            (vec![Finding::skipped("credential", what)], None)
        }
    };
    let mut plugin = None;
    if let (Some(common), Some(settings), Some(probe)) = (common, &settings, &probe) {
        match entra::plugin(common, settings.clone(), credential.clone(), clock) {
            Ok(made) => {
                if reached {
                    let has_credential = credential.is_some();
                    let question = EntraQuestion { plugin: &made, probe, settings, has_credential, clock: &**clock };
                    let EntraFindings { authority, token } = question.ask().await;
                    found.extend(authority);
                    // Of a credential that was not got, or is not needed, the line above says enough.
                    of_credential.extend(token.into_iter().filter(|_| has_credential));
                }
                plugin = Some(made);
            }
            Err(error) => found.push(Finding::failure(
                "component",
                error.to_string(),
                "correct what it names, or report it with the log",
            )),
        }
    }
    let reason = match (&settings, reached, &plugin) {
        (None, ..) => Some("correct the settings first"),
        (_, false, _) => Some("Entra ID is not reached"),
        (_, true, None) => Some("the component does not run"),
        _ => None,
    };
    if let Some(reason) = reason {
        found.push(Finding::skipped("metadata", format!("clock, metadata and keys were not looked at: {reason}")));
        if credential.is_some() {
            of_credential.push(Finding::skipped("token", format!("the application was not tried: {reason}")));
        }
    }
    report.add("Entra ID", found);
    report.add("Credential", of_credential);
    let registration = match (meant, &settings, &credential, &probe) {
        (Meant::Remote(_), Some(settings), Some(credential), Some(probe)) if reached => {
            registration::findings(probe, settings, &**credential).await
        }
        _ => {
            let reason = match (meant, reason) {
                (Meant::Unknown(_), _) => "correct the settings first",
                (_, Some(reason)) => reason,
                _ => "the application itself asks for it, with its credential",
            };
            let what = format!(
                "the app registration was not looked at: {reason}; `entra-mcp setup --dry-run` looks at it as a person"
            );
            vec![Finding::skipped("registration", what)]
        }
    };
    let advice = settings.as_ref().and_then(ServeConfig::app_id_uri_advice);
    let advice = advice.map(|advice| {
        Finding::of_sentence("app-id-uri", &advice, "set the URL of the endpoint as the Application ID URI")
    });
    report.add("App registration", advice.into_iter().chain(registration).collect());
    // No token is judged by settings that are wrong.
    (settings, plugin.filter(|_| !matches!(meant, Meant::Unknown(_))))
}
