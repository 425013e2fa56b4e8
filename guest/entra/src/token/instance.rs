//! What an instance remembers between calls. All of it is a cache that may vanish at any time.

use std::cell::RefCell;
use std::rc::Rc;

use base::settings::{Settings, TokenSettings};

use super::authority::Authority;
use super::given_keys::KeysHash;
use super::validated::{RefusedSignatures, ValidatedTokens};

/// The caches of one instance.
#[derive(Debug, Default)]
pub(crate) struct InstanceCaches {
    pub(super) authority: Authority,
    pub(super) validated: RefCell<ValidatedTokens>,
    pub(super) refused: RefCell<RefusedSignatures>,
}

/// The settings that decide about a token. What was decided under other settings is not remembered.
#[derive(Debug, PartialEq, Eq)]
struct TokenPolicy {
    public_client: bool,
    tenant: String,
    client_id: String,
    authority: String,
    token: TokenSettings,
}

impl TokenPolicy {
    fn is_of(&self, settings: &Settings) -> bool {
        let Settings { tenant, client_id, authority, token, .. } = settings;
        self.public_client == settings.is_public_client()
            && self.tenant == *tenant
            && self.client_id == *client_id
            && self.authority == *authority
            && self.token == *token
    }
}

impl From<&Settings> for TokenPolicy {
    fn from(settings: &Settings) -> Self {
        Self {
            public_client: settings.is_public_client(),
            tenant: settings.tenant.clone(),
            client_id: settings.client_id.clone(),
            authority: settings.authority.clone(),
            token: settings.token.clone(),
        }
    }
}

thread_local! {
    // A component instance has one thread, so this is the instance's.
    static CURRENT: RefCell<Option<(TokenPolicy, Rc<InstanceCaches>)>> = const { RefCell::new(None) };
    // The same for the keys that were last handed in.
    static GIVEN: RefCell<Option<(KeysHash, TokenPolicy, Rc<InstanceCaches>)>> = const { RefCell::new(None) };
}

impl InstanceCaches {
    /// The caches of the running instance, empty if the settings are not those they were filled under.
    pub(crate) fn current(settings: &Settings) -> Rc<Self> {
        CURRENT.with_borrow_mut(|current| match current {
            Some((policy, instance)) if policy.is_of(settings) => Rc::clone(instance),
            _ => {
                let instance = Rc::new(Self::default());
                *current = Some((TokenPolicy::from(settings), Rc::clone(&instance)));
                instance
            }
        })
    }

    /// The caches for keys that are handed in, empty unless the keys and the settings are those they were filled under.
    pub(super) fn for_keys(settings: &Settings, keys: KeysHash) -> Rc<Self> {
        GIVEN.with_borrow_mut(|given| match given {
            Some((hash, policy, instance)) if *hash == keys && policy.is_of(settings) => Rc::clone(instance),
            _ => {
                let instance = Rc::new(Self::default());
                *given = Some((keys, TokenPolicy::from(settings), Rc::clone(&instance)));
                instance
            }
        })
    }

    /// Continues as another instance.
    #[cfg(test)]
    pub(super) fn replace(settings: &Settings, instance: Rc<Self>) {
        CURRENT.with_borrow_mut(|current| *current = Some((TokenPolicy::from(settings), instance)));
    }

    /// Forgets everything, as a new instance would.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn restart() {
        CURRENT.with_borrow_mut(|current| *current = None);
        GIVEN.with_borrow_mut(|given| *given = None);
    }
}
