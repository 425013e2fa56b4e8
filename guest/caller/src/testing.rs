//! For unit tests: a person at this machine.

use entra::testing::EntraWorlds as _;
use world::testing::{World, forever, local_settings};

use crate::local::PersonWorld;

/// Worlds on fakes, which are never freed.
pub trait PersonWorlds {
    /// For the person at this machine, with the default settings.
    fn person(&self) -> PersonWorld<'static>;
}

impl PersonWorlds for World {
    fn person(&self) -> PersonWorld<'static> {
        let world = forever(self.clone());
        PersonWorld {
            entra: self.entra(),
            settings: forever(local_settings()),
            chosen: None,
            agent: world,
            broker: world,
            channel: world,
        }
    }
}
