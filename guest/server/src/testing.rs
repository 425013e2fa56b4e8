//! For unit tests: a remote server on fakes, and callers of it.

use async_trait::async_trait;
use base::decision::{Fact, Facts};
use base::principal::{Groups, PrincipalKind};
use base::settings::{HttpSettings, Mode, Settings};
use base::{Identity, Secret};
use caller::session::{Membership, Unconfirmed};
use caller::{Caller, CallerAuthentication, NoToken};
use entra::graph::{GraphChallenge, GraphError, Source, profile};
use entra::oauth::error::EntraRefusal;
use entra::testing::EntraWorlds as _;
use entra::{AcquireError, EntraWorld};
use world::testing::{TENANT, World, forever};

use crate::server_world::ServerWorld;
use crate::site::Site;

/// Worlds on fakes, which are never freed.
pub(crate) trait ServerWorlds {
    /// For a remote server with a client secret.
    fn remote(&self) -> ServerWorld<'static>;
}

impl ServerWorlds for World {
    fn remote(&self) -> ServerWorld<'static> {
        let (world, entra) = (forever(self.clone()), self.entra_remote());
        let site = Site::of(http_settings_of(entra.settings));
        ServerWorld { entra, site, limiter: world, client_metadata: world, log: world }
    }
}

fn http_settings_of(settings: &Settings) -> &HttpSettings {
    match &settings.mode {
        Mode::Remote(http) => http,
        Mode::Local(_) | Mode::Validator => panic!("not a remote server"),
    }
}

/// Changes the settings, as another configuration of the component does.
pub(crate) fn change(env: &mut ServerWorld<'static>, change: impl FnOnce(&mut Settings)) {
    entra::testing::change(&mut env.entra, change);
    env.site = Site::of(http_settings_of(env.entra.settings));
}

/// Changes the settings of the remote server.
pub(crate) fn configure(env: &mut ServerWorld<'static>, change: impl FnOnce(&mut HttpSettings)) {
    self::change(env, |settings| match &mut settings.mode {
        Mode::Remote(http) => change(http),
        Mode::Local(_) | Mode::Validator => panic!("not a remote server"),
    });
}

/// The object id of a [`TestCaller`].
pub(crate) const OBJECT: &str = "11111111-aaaa-2222-bbbb-3333cccc4444";

/// A caller with a token of Entra ID, to be changed. It gets tokens that are called like their scope.
#[derive(Clone)]
pub(crate) struct TestCaller {
    pub(crate) tenant: &'static str,
    pub(crate) client: &'static str,
    pub(crate) kind: PrincipalKind,
    pub(crate) guest: bool,
    pub(crate) scopes: Vec<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) groups: Groups,
    /// What Entra ID refuses tokens with.
    pub(crate) refusal: Option<EntraRefusal>,
}

impl TestCaller {
    pub(crate) fn user() -> Self {
        Self {
            tenant: TENANT,
            client: "client",
            kind: PrincipalKind::User,
            guest: false,
            scopes: texts(&["access_as_user"]),
            roles: Vec::new(),
            groups: Groups::Absent,
            refusal: None,
        }
    }

    pub(crate) fn app() -> Self {
        Self { kind: PrincipalKind::App, scopes: Vec::new(), ..Self::user() }
    }

    pub(crate) fn scopes(self, scopes: &[&str]) -> Self {
        Self { scopes: texts(scopes), ..self }
    }

    pub(crate) fn roles(self, roles: &[&str]) -> Self {
        Self { roles: texts(roles), ..self }
    }

    pub(crate) fn groups(self, groups: &[&str]) -> Self {
        Self { groups: Groups::Listed(texts(groups)), ..self }
    }

    pub(crate) fn client(self, client: &'static str) -> Self {
        Self { client, ..self }
    }

    pub(crate) fn tenant(self, tenant: &'static str) -> Self {
        Self { tenant, ..self }
    }

    fn who(&self) -> Identity<'_> {
        Identity { tenant_id: self.tenant, object_id: OBJECT, client_id: self.client }
    }
}

pub(crate) fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[async_trait(?Send)]
impl Caller for TestCaller {
    fn kind(&self) -> CallerAuthentication {
        CallerAuthentication::Bearer
    }

    fn facts(&self) -> Option<Facts<'_>> {
        Some(Facts {
            identity: self.who(),
            kind: self.kind,
            guest: Fact::Known(self.guest),
            scopes: &self.scopes,
            server_scope: None,
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
