//! For unit tests and fuzz targets: a remote server on fakes, and callers of it.

#![allow(clippy::panic, reason = "tests may stop at the first surprise")]

use async_trait::async_trait;
use base::decision::{Fact, Facts};
use base::principal::{Groups, PrincipalKind};
use base::settings::{HttpSettings, Mode, Settings};
use base::{Identity, Secret};
use caller::session::{Membership, Unconfirmed};
use caller::testing::PersonWorlds as _;
use caller::{Caller, CallerAuthentication, CallerReference, NoToken};
use entra::graph::{GraphChallenge, GraphError, Source, profile};
use entra::oauth::error::EntraRefusal;
use entra::testing::EntraWorlds as _;
use entra::{AcquireError, EntraWorld};
use world::testing::{TENANT, World, forever};

use crate::client_documents::Documents;
use crate::local_world::LocalWorld;
use crate::server_world::ServerWorld;
use crate::site::Site;
use crate::tool_lists::{ProvidedWorld, ToolLists};

/// Worlds on fakes, which are never freed.
pub trait ServerWorlds {
    /// For a remote server with a client secret.
    fn remote(&self) -> ServerWorld<'static>;
    /// For the person at this machine, with the default settings.
    fn local(&self) -> LocalWorld<'static>;
    /// The tools of servers behind the component, in a new instance.
    fn provided(&self) -> ProvidedWorld<'static>;
}

impl ServerWorlds for World {
    fn remote(&self) -> ServerWorld<'static> {
        let (world, entra) = (forever(self.clone()), self.entra_remote());
        let site = Site::of(http_settings_of(entra.settings)).with_servers(&entra.settings.servers);
        ServerWorld {
            entra,
            site,
            server: None,
            limiter: world,
            client_metadata: world,
            documents: forever(Documents::default()),
            log: world,
            provided: self.provided(),
        }
    }

    fn local(&self) -> LocalWorld<'static> {
        LocalWorld { person: self.person(), provided: self.provided() }
    }

    fn provided(&self) -> ProvidedWorld<'static> {
        let world = forever(self.clone());
        ProvidedWorld { tools: world, lists: forever(ToolLists::default()), log: world }
    }
}

fn http_settings_of(settings: &Settings) -> &HttpSettings {
    match &settings.mode {
        Mode::Remote(http) => http,
        Mode::Local(_) | Mode::Validator => panic!("not a remote server"),
    }
}

/// Changes the settings, as another configuration of the component does.
pub fn change(env: &mut ServerWorld<'static>, change: impl FnOnce(&mut Settings)) {
    entra::testing::change(&mut env.entra, change);
    env.site = Site::of(http_settings_of(env.entra.settings)).with_servers(&env.entra.settings.servers);
}

/// Changes the settings of the remote server.
pub fn configure(env: &mut ServerWorld<'static>, change: impl FnOnce(&mut HttpSettings)) {
    self::change(env, |settings| match &mut settings.mode {
        Mode::Remote(http) => change(http),
        Mode::Local(_) | Mode::Validator => panic!("not a remote server"),
    });
}

/// The object id of a [`TestCaller`].
pub const OBJECT: &str = "11111111-aaaa-2222-bbbb-3333cccc4444";

/// A caller with a token of Entra ID, to be changed. It gets tokens that are called like their scope.
#[derive(Clone)]
pub struct TestCaller {
    /// Its tenant.
    pub tenant: &'static str,
    /// The client that it calls with.
    pub client: &'static str,
    /// A person or an application.
    pub kind: PrincipalKind,
    /// Whether an AI agent calls.
    pub agent: bool,
    /// The authentication contexts of its token.
    pub contexts: Vec<String>,
    /// Whether the person is a guest of the tenant.
    pub guest: bool,
    /// The scopes of its token.
    pub scopes: Vec<String>,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its groups.
    pub groups: Groups,
    /// What Entra ID refuses tokens with.
    pub refusal: Option<EntraRefusal>,
    /// The token that it has brought.
    pub token: String,
}

impl TestCaller {
    /// A person with the scope of this server.
    pub fn user() -> Self {
        Self {
            tenant: TENANT,
            client: "client",
            kind: PrincipalKind::User,
            agent: false,
            contexts: Vec::new(),
            guest: false,
            scopes: texts(&["access_as_user"]),
            roles: Vec::new(),
            groups: Groups::Absent,
            refusal: None,
            token: "a token".to_owned(),
        }
    }

    /// An application without roles.
    pub fn app() -> Self {
        Self { kind: PrincipalKind::App, scopes: Vec::new(), ..Self::user() }
    }

    /// With these scopes.
    pub fn scopes(self, scopes: &[&str]) -> Self {
        Self { scopes: texts(scopes), ..self }
    }

    /// With these roles.
    pub fn roles(self, roles: &[&str]) -> Self {
        Self { roles: texts(roles), ..self }
    }

    /// With these groups.
    pub fn groups(self, groups: &[&str]) -> Self {
        Self { groups: Groups::Listed(texts(groups)), ..self }
    }

    /// The same as an AI agent.
    pub fn agent(self) -> Self {
        Self { agent: true, ..self }
    }

    /// With these authentication contexts.
    pub fn contexts(self, contexts: &[&str]) -> Self {
        Self { contexts: texts(contexts), ..self }
    }

    /// With this client.
    pub fn client(self, client: &'static str) -> Self {
        Self { client, ..self }
    }

    /// Of this tenant.
    pub fn tenant(self, tenant: &'static str) -> Self {
        Self { tenant, ..self }
    }

    fn who(&self) -> Identity<'_> {
        Identity { tenant_id: self.tenant, object_id: OBJECT, client_id: self.client }
    }
}

/// Texts of their own.
pub fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[async_trait(?Send)]
impl Caller for TestCaller {
    fn kind(&self) -> CallerAuthentication {
        CallerAuthentication::Bearer
    }

    fn reference(&self) -> CallerReference {
        CallerReference::Bearer(Secret::new(self.token.clone()))
    }

    fn facts(&self) -> Option<Facts<'_>> {
        Some(Facts {
            identity: self.who(),
            kind: self.kind,
            agent: self.agent,
            guest: Fact::Known(self.guest),
            scopes: &self.scopes,
            server_scope: None,
            contexts: &self.contexts,
            roles: Fact::Known(&self.roles),
            groups: Fact::Known(&self.groups),
            all_groups: Fact::Unknown,
        })
    }

    async fn confirm(&self) -> Result<Membership, Unconfirmed> {
        panic!("roles and groups are known")
    }

    async fn delegated(&self, scope: &str, _: Option<&GraphChallenge>) -> Result<Secret<String>, NoToken> {
        match &self.refusal {
            None => Ok(Secret::from(scope)),
            Some(refusal) => Err(AcquireError::Refused(refusal.clone()).into()),
        }
    }

    async fn profile(&self, env: &EntraWorld<'_>, tokens: &Source<'_, NoToken>) -> Result<String, GraphError<NoToken>> {
        profile::whole(env, self.who(), tokens).await
    }
}
