//! For unit tests: a remote server on fakes.

use base::settings::{HttpSettings, Mode, Settings};
use entra::testing::EntraWorlds as _;
use world::testing::{World, forever};

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
