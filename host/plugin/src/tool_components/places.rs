//! The places for calls of one tool component.
//!
//! One caller gets half of them at most. Otherwise a caller whose calls are slow would keep all others out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::provided_tools::ToolCaller;

/// Tenant and object id, which identify a caller with all of its clients.
type Key = (String, String);

/// Why a call gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoCallPlace {
    /// All places are taken.
    Full,
    /// The caller has taken its share.
    ShareTaken,
}

#[derive(Default)]
struct Taken {
    places: usize,
    of_callers: HashMap<Key, usize>,
}

/// Counts the calls that are going on.
pub(super) struct CallPlaces {
    most: usize,
    taken: Mutex<Taken>,
}

impl CallPlaces {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Mutex::default() }
    }

    /// Calls at the same time.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Calls of one caller at the same time: half of all, and at least one.
    pub(super) fn most_of_one(&self) -> usize {
        self.most.div_euclid(2).max(1)
    }

    /// A place for a call. `None`: another limit bounds the caller, or the host itself calls.
    pub(super) fn enter(self: &Arc<Self>, caller: Option<&ToolCaller>) -> Result<CallPlace, NoCallPlace> {
        let key = caller.map(|caller| (caller.tenant_id.clone(), caller.object_id.clone()));
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &key
            && taken.of_callers.get(key).is_some_and(|count| *count >= self.most_of_one())
        {
            return Err(NoCallPlace::ShareTaken);
        }
        if taken.places >= self.most {
            return Err(NoCallPlace::Full);
        }
        taken.places = taken.places.saturating_add(1);
        if let Some(key) = &key {
            let count = taken.of_callers.entry(key.clone()).or_default();
            *count = count.saturating_add(1);
        }
        drop(taken);
        Ok(CallPlace { places: Arc::clone(self), key })
    }
}

/// The place of a call, given back when it is dropped.
pub(super) struct CallPlace {
    places: Arc<CallPlaces>,
    key: Option<Key>,
}

impl Drop for CallPlace {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.places = taken.places.saturating_sub(1);
        let Some(key) = &self.key else { return };
        let Some(count) = taken.of_callers.get_mut(key) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            taken.of_callers.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::types::PrincipalKind;

    fn caller(tenant: &str, object: &str, client: &str) -> ToolCaller {
        ToolCaller {
            tenant_id: tenant.to_owned(),
            object_id: object.to_owned(),
            client_id: client.to_owned(),
            kind: PrincipalKind::User,
            scopes: Vec::new(),
            roles: Vec::new(),
            correlation_id: String::new(),
        }
    }

    fn refused(places: &Arc<CallPlaces>, caller: Option<&ToolCaller>) -> Option<NoCallPlace> {
        places.enter(caller).err()
    }

    #[test]
    fn one_caller_takes_half_of_the_places_with_all_of_its_clients() {
        let places = Arc::new(CallPlaces::new(4));
        let mallory = |client: &str| caller("a", "mallory", client);
        let taken = ["x", "y"].map(|client| places.enter(Some(&mallory(client))).unwrap());
        assert_eq!(refused(&places, Some(&mallory("z"))), Some(NoCallPlace::ShareTaken));
        // Object ids belong to a tenant.
        let others = [caller("a", "alice", "x"), caller("b", "mallory", "x")];
        let of_others = others.each_ref().map(|other| places.enter(Some(other)).unwrap());
        assert_eq!(refused(&places, Some(&caller("a", "bob", ""))), Some(NoCallPlace::Full));
        assert_eq!(refused(&places, None), Some(NoCallPlace::Full));
        drop(of_others);
        assert_eq!(refused(&places, Some(&mallory("x"))), Some(NoCallPlace::ShareTaken));
        drop(taken);
        assert_eq!(refused(&places, Some(&mallory("x"))), None);
        assert!(places.taken.lock().unwrap().of_callers.is_empty(), "callers without a call are forgotten");
    }

    #[test]
    fn the_only_place_is_for_every_caller() {
        let places = Arc::new(CallPlaces::new(1));
        let alice = caller("a", "alice", "");
        let place = places.enter(Some(&alice)).unwrap();
        assert_eq!(refused(&places, Some(&caller("a", "bob", ""))), Some(NoCallPlace::Full));
        drop(place);
        assert_eq!(refused(&places, Some(&caller("a", "bob", ""))), None);
    }
}
