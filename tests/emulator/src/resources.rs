//! Scopes: which resource a `scope` parameter names, and whether the permissions exist.
//!
//! A scope without a resource in front means Microsoft Graph. That is why a short scope of another API is refused
//! with 650053: Graph has no such permission.

use super::config::{Application, Config, GRAPH_APP_ID, Scope};
use super::errors::{self, Refusal};
use super::world::World;

/// The names of Graph in a scope, in every cloud.
const GRAPH_NAMES: [&str; 4] = [
    "https://graph.microsoft.com",
    "https://graph.microsoft.us",
    "https://dod-graph.microsoft.us",
    "https://microsoftgraph.chinacloudapi.cn",
];
const OPENID_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// A parsed `scope` parameter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) openid: Vec<String>,
    pub(crate) targets: Vec<Target>,
    pub(crate) raw: String,
}

/// One resource with the permissions asked of it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) resource: Resource,
    /// The resource as the client wrote it; empty for short Graph scopes.
    pub(crate) written_as: String,
    pub(crate) permissions: Vec<Permission>,
    /// `.default` was asked for.
    pub(crate) default: bool,
}

/// A permission as asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Permission {
    pub(crate) name: String,
    pub(crate) written_as: String,
    pub(crate) administrator: bool,
    pub(crate) title: String,
}

/// What a token is for.
#[derive(Clone, Debug)]
pub(crate) enum Resource {
    Graph,
    Application(Box<Application>),
}

impl Resource {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Graph => GRAPH_APP_ID,
            Self::Application(application) => &application.id,
        }
    }

    fn scopes<'a>(&'a self, config: &'a Config) -> &'a [Scope] {
        match self {
            Self::Graph => &config.graph.scopes,
            Self::Application(application) => &application.scopes,
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Asked {
    pub(crate) fn has(&self, openid_scope: &str) -> bool {
        self.openid.iter().any(|scope| scope == openid_scope)
    }

    /// The only resource, or Graph's user-info permission when none is named; several are refused (28000).
    pub(crate) fn single_target(&self) -> Result<Target, Refusal> {
        match self.targets.as_slice() {
            [] => Ok(Target {
                resource: Resource::Graph,
                written_as: String::new(),
                permissions: Vec::new(),
                default: false,
            }),
            [one] => Ok(one.clone()),
            _ => Err(errors::SEVERAL_RESOURCES.because(format!(
                "Provided value for the input parameter scope is not valid because it contains more than one resource. \
                 Scope {} is not valid.",
                self.raw
            ))),
        }
    }
}

/// Where a scope is being read: the same mistake has different codes at the two endpoints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum At {
    Authorize,
    Token,
}

/// Reads a `scope` parameter for this client.
pub(crate) fn parse(
    world: &World,
    config: &Config,
    client: &Application,
    scope: &str,
    at: At,
) -> Result<Asked, Refusal> {
    let mut asked = Asked { raw: scope.to_owned(), ..Asked::default() };
    for one in scope.split_ascii_whitespace() {
        if OPENID_SCOPES.contains(&one) {
            if !asked.has(one) {
                asked.openid.push(one.to_owned());
            }
            continue;
        }
        let (resource, written_as, name) = resolve(world, config, one)?;
        let target = match asked.targets.iter_mut().find(|target| target.resource.is(&resource)) {
            Some(target) => target,
            None => {
                asked.targets.push(Target { resource, written_as, permissions: Vec::new(), default: false });
                match asked.targets.last_mut() {
                    Some(target) => target,
                    None => continue,
                }
            }
        };
        if name == ".default" {
            target.default = true;
            continue;
        }
        let permission = find(config, &target.resource, one, name)
            .ok_or_else(|| unknown_scope(&target.resource, client, one, name, at))?;
        if !target.permissions.contains(&permission) {
            target.permissions.push(permission);
        }
    }
    for target in &mut asked.targets {
        if target.default {
            if !target.permissions.is_empty() {
                return Err(errors::INVALID_SCOPE.because(format!(
                    "The provided request must include a 'scope' input parameter. The provided value for the input \
                     parameter 'scope' is not valid. The scope {scope} is not valid. .default scope can't be combined \
                     with resource-specific scopes."
                )));
            }
            target.permissions = configured(world, config, client, &target.resource);
        }
    }
    Ok(asked)
}

/// The permissions configured on the client for a resource: what `.default` stands for.
fn configured(world: &World, config: &Config, client: &Application, resource: &Resource) -> Vec<Permission> {
    client
        .permissions
        .iter()
        .filter_map(|scope| {
            let (found, _, name) = resolve(world, config, scope).ok()?;
            if !found.is(resource) {
                return None;
            }
            find(config, &found, scope, name)
        })
        .collect()
}

fn find(config: &Config, resource: &Resource, written_as: &str, name: &str) -> Option<Permission> {
    let scope = resource.scopes(config).iter().find(|scope| scope.name.eq_ignore_ascii_case(name))?;
    Some(Permission {
        name: scope.name.clone(),
        written_as: written_as.to_owned(),
        administrator: scope.administrator,
        title: scope.title.clone(),
    })
}

fn unknown_scope(resource: &Resource, client: &Application, scope: &str, name: &str, at: At) -> Refusal {
    match at {
        At::Authorize => errors::NO_SUCH_SCOPE.because(format!(
            "The application '{}' asked for scope '{name}' that doesn't exist on the resource '{}'. Contact the app vendor.",
            client.name,
            resource.id()
        )),
        At::Token => errors::INVALID_SCOPE.because(format!(
            "The provided request must include a 'scope' input parameter. The provided value for the input parameter \
             'scope' is not valid. The scope {scope} is not valid."
        )),
    }
}

/// Splits a scope into its resource, the resource as written, and the permission's name.
fn resolve<'a>(world: &World, config: &Config, scope: &'a str) -> Result<(Resource, String, &'a str), Refusal> {
    let Some((written, name)) = scope.rsplit_once('/') else {
        return Ok((Resource::Graph, String::new(), scope));
    };
    resource(world, config, written).map(|resource| (resource, written.to_owned(), name)).ok_or_else(|| {
        errors::UNKNOWN_RESOURCE.because(format!(
            "The resource principal named {written} was not found in the tenant. This can happen if the application \
                 has not been installed by the administrator of the tenant or consented to by any user in the tenant. \
                 You might have sent your authentication request to the wrong tenant."
        ))
    })
}

/// The resource of this name: an App ID URI, a client id, or one of Graph's names.
///
/// An App ID URI that ends in a slash also matches without it, because a scope is written with a single slash between
/// resource and permission; `//.default` works as well. Nothing else is normalised.
pub(crate) fn resource(world: &World, config: &Config, written: &str) -> Option<Resource> {
    let bare = written.strip_suffix('/').unwrap_or(written);
    if bare == GRAPH_APP_ID || bare == world.graph || GRAPH_NAMES.contains(&bare) {
        return Some(Resource::Graph);
    }
    let matches = |application: &&Application| {
        application.id == written
            || application.identifier_uris.iter().any(|uri| uri == written || uri.strip_suffix('/') == Some(written))
    };
    config.applications.iter().find(matches).cloned().map(|application| Resource::Application(Box::new(application)))
}
