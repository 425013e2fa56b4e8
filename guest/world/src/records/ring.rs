//! Records that strangers cause, or one person: bounded in number and in bytes together, the oldest give way.
//!
//! Threat: an attacker without an account sends requests that each leave a record. Times to live bound how long a record
//! stays, rate limits how many one address makes; neither bounds what many addresses make in that time.
//!
//! The store has no list of its records, so a ring of places stands for one. A record takes as many places as it has
//! bytes, after the places of the last one, and what was in them goes. A place names the record in it; that the record
//! is gone already does no harm. Calls at the same moment would wait for each other at the end of one ring, so there are
//! several lanes, and chance chooses: what gives way is the oldest of a lane.

use std::time::Duration;

use super::{Key, Namespace, Next, Partition, Records, Ttl};
use crate::store::StoreError;

/// Which records count together, and how much they may take. A constant.
#[derive(Debug, Clone, Copy)]
pub struct Ring {
    partition: Partition,
    prefix: &'static str,
    lanes: u8,
    places: u64,
    place_bytes: usize,
    kept: Duration,
}

impl Ring {
    /// `lanes` times `places` records, each of which takes one place for `place_bytes` bytes or a part of them. None
    /// of the records is kept longer than `kept`.
    pub const fn new(
        partition: Partition,
        prefix: &'static str,
        lanes: u8,
        places: u64,
        place_bytes: usize,
        kept: Duration,
    ) -> Self {
        Self { partition, prefix, lanes, places, place_bytes, kept }
    }

    /// The number of the next place of a lane, by lane. It only grows: places are numbered modulo their number.
    fn ends(&self) -> Namespace<u64> {
        Namespace::json(self.partition, self.prefix, Ttl::For(self.kept)).ending_with("/end").absent_if_malformed()
    }

    /// What is in a place, by lane and number: the name of a record in the store.
    fn occupants(&self) -> Namespace<String> {
        Namespace::text(self.partition, self.prefix, Ttl::For(self.kept)).absent_if_malformed()
    }
}

impl Records<'_> {
    /// Writes a new record, whatever is there, and takes places for it in a ring: as many as its bytes need, or
    /// `reserved` bytes if these are more. What was in the places is deleted.
    pub async fn put_in<T>(
        &self,
        ring: &Ring,
        reserved: usize,
        namespace: &Namespace<T>,
        key: impl Into<Key<'_>>,
        value: &T,
    ) -> Result<(), StoreError> {
        self.put_in_one_of(ring, &[], reserved, namespace, key, value).await
    }

    /// The same where each owner has a ring of these measures. Without an owner, it is the ring of all.
    pub async fn put_in_one_of<T>(
        &self,
        ring: &Ring,
        owner: &[&str],
        reserved: usize,
        namespace: &Namespace<T>,
        key: impl Into<Key<'_>>,
        value: &T,
    ) -> Result<(), StoreError> {
        let raw_key = self.raw_key(namespace, key);
        let bytes = namespace.encode(value)?;
        let needed = bytes.len().max(reserved).div_ceil(ring.place_bytes.max(1)).max(1);
        let needed = u64::try_from(needed).ok().filter(|needed| *needed <= ring.places).ok_or(StoreError::TooLarge)?;
        let mut random = [0];
        self.random.fill(&mut random);
        let number = (random[0] % ring.lanes.max(1)).to_string();
        let lane = [owner, &[number.as_str()]].concat();
        let ends = ring.ends();
        let first = self.update(&ends, Key::Parts(&lane), |end| {
            let end = end.unwrap_or_default();
            Next::Write(end.wrapping_add(needed), end)
        });
        let first = first.await?;
        let occupants = ring.occupants();
        for offset in 0..needed {
            let number = (first.wrapping_add(offset) % ring.places).to_string();
            let place = [lane.as_slice(), &[number.as_str()]].concat();
            let before = self.get(&occupants, Key::Parts(&place)).await?;
            self.put(&occupants, Key::Parts(&place), &raw_key).await?;
            if let Some(before) = before.filter(|before| *before != raw_key) {
                self.store.delete(&before).await?;
            }
        }
        // Last: a record without a place would not count.
        self.store.put(&raw_key, &bytes, namespace.ttl(value, || self.clock.now())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, run, settings};

    const NOTES: Namespace<String> = Namespace::text(Partition::Store, "note", Ttl::For(Duration::from_secs(60)));
    const RING: Ring = Ring::new(Partition::Store, "ring", 1, 4, 10, Duration::from_secs(60));

    fn put(world: &World, name: &str, bytes: usize) -> Result<(), StoreError> {
        run(world.records(&settings()).put_in(&RING, 0, &NOTES, name, &"x".repeat(bytes)))
    }

    fn notes(world: &World) -> Vec<String> {
        world.record_names().into_iter().filter_map(|name| name.strip_prefix("note/").map(str::to_owned)).collect()
    }

    #[test]
    fn the_oldest_record_gives_way_when_there_are_too_many() {
        let world = World::default();
        for name in ["a", "b", "c", "d"] {
            put(&world, name, 1).unwrap();
        }
        assert_eq!(notes(&world), ["a", "b", "c", "d"]);
        put(&world, "e", 10).unwrap();
        assert_eq!(notes(&world), ["b", "c", "d", "e"]);
        for number in 0..100 {
            put(&world, &format!("many-{number}"), 1).unwrap();
        }
        assert_eq!(notes(&world), ["many-96", "many-97", "many-98", "many-99"]);
    }

    #[test]
    fn a_large_record_takes_the_room_of_several_and_one_that_never_fits_is_refused() {
        let world = World::default();
        for name in ["a", "b", "c", "d"] {
            put(&world, name, 1).unwrap();
        }
        put(&world, "large", 21).unwrap();
        assert_eq!(notes(&world), ["d", "large"]);
        put(&world, "e", 1).unwrap();
        put(&world, "f", 1).unwrap();
        assert_eq!(notes(&world), ["e", "f"]);
        assert_eq!(put(&world, "too large", 41), Err(StoreError::TooLarge));
        assert_eq!(notes(&world), ["e", "f"], "and takes the room of none");
    }

    #[test]
    fn room_may_be_reserved_for_what_a_record_becomes() {
        let world = World::default();
        put(&world, "a", 1).unwrap();
        put(&world, "b", 1).unwrap();
        let records = world.records(&settings());
        run(records.put_in(&RING, 40, &NOTES, "grows", &"x".to_owned())).unwrap();
        assert_eq!(notes(&world), ["grows"]);
    }

    #[test]
    fn a_record_that_has_gone_leaves_its_place_and_what_took_its_name_elsewhere_is_not_touched() {
        let world = World::default();
        put(&world, "a", 1).unwrap();
        world.delete("note/a").unwrap();
        for name in ["b", "c", "d", "e"] {
            put(&world, name, 1).unwrap();
        }
        assert_eq!(notes(&world), ["b", "c", "d", "e"]);
    }

    #[test]
    fn the_places_are_forgotten_with_the_last_record() {
        let world = World::default();
        put(&world, "a", 1).unwrap();
        world.advance(Duration::from_secs(60));
        for name in world.record_names() {
            assert!(world.get(&name).unwrap().is_none(), "{name}");
        }
    }

    #[test]
    fn lanes_are_rings_of_their_own() {
        const LANES: Ring = Ring::new(Partition::Store, "ring", 4, 4, 10, Duration::from_secs(60));
        let world = World::default();
        let records = world.records(&settings());
        for number in 0..200 {
            run(records.put_in(&LANES, 0, &NOTES, &format!("{number}"), &String::new())).unwrap();
        }
        assert_eq!(notes(&world).len(), 16);
    }

    #[test]
    fn what_one_owner_has_takes_no_place_of_another() {
        let world = World::default();
        let records = world.records(&settings());
        for (owner, count) in [("alice", 3), ("bob", 50)] {
            for number in 0..count {
                let name = format!("{owner}-{number}");
                run(records.put_in_one_of(&RING, &[owner], 0, &NOTES, &name, &String::new())).unwrap();
            }
        }
        assert_eq!(notes(&world), ["alice-0", "alice-1", "alice-2", "bob-46", "bob-47", "bob-48", "bob-49"]);
    }

    #[test]
    fn a_store_that_fails_anywhere_never_leaves_more_records_than_places() {
        for failing in 0.. {
            let world = World::default();
            for name in ["a", "b", "c", "d"] {
                put(&world, name, 1).unwrap();
            }
            world.fail_store(failing);
            let failed = put(&world, "e", 1);
            if !world.heal_store() {
                break;
            }
            assert!(failed.is_err());
            assert!(notes(&world).len() <= 4, "{failing}: {:?}", notes(&world));
        }
    }
}
