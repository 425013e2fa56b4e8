//! How much each client has, and which of them gives way.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn shares(most: usize, most_each: usize) -> Arc<Shares> {
    Shares::new(ShareBounds { most, most_each, least: 1, newcomers_first: false, little: 0, spare: 0 })
}

/// Connections: half for each, and a newcomer always gets in.
fn connections(most: usize) -> Arc<Shares> {
    let most_each = (most / 2).max(1);
    Shares::new(ShareBounds { most, most_each, least: 1, newcomers_first: true, little: 0, spare: 0 })
}

impl Shares {
    fn of(self: &Arc<Self>, client: &str) -> Share {
        self.share(Some(address(client)), &Arc::default())
    }

    fn take(self: &Arc<Self>, client: &str, amount: usize) -> Option<Share> {
        let mut share = self.of(client);
        share.grow(amount, amount).then_some(share)
    }

    /// What is occupied, and of it what is whole, and what there was no other room for.
    fn counted(&self) -> (usize, usize, usize) {
        let table = self.table();
        (table.occupied, table.whole, table.spared)
    }

    fn proxy(self: &Arc<Self>) -> Option<Share> {
        let mut share = self.share(None, &Arc::default());
        share.grow(1, 1).then_some(share)
    }
}

impl Share {
    fn is_displaced(&self) -> bool {
        pin!(self.displaced()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}

fn displaced<'a>(shares: impl IntoIterator<Item = &'a Share>) -> Vec<usize> {
    shares.into_iter().enumerate().filter(|(_, share)| share.is_displaced()).map(|(number, _)| number).collect()
}

#[test]
fn one_address_has_its_share_and_others_have_theirs() {
    let shares = shares(6, 3);
    let mut first = shares.take("203.0.113.1", 2).unwrap();
    assert!(shares.take("203.0.113.1", 2).is_none());
    assert!(!first.grow(2, 2));
    assert!(first.grow(1, 1));
    let other = shares.take("203.0.113.2", 3).unwrap();
    drop(first);
    assert!(shares.take("203.0.113.1", 3).is_some());
    drop(other);
    let table = shares.table();
    assert_eq!((table.occupied, table.networks.len(), table.holders.len()), (0, 0, 0), "nothing is remembered");
    assert!(table.ranks.is_empty());
}

#[test]
fn the_addresses_of_one_ipv6_network_are_one() {
    for (bits, near, far) in [
        (64, "2001:db8:0:a::ffff:2", "2001:db8:0:100::1"),
        (56, "2001:db8:0:ff::1", "2001:db8:1::1"),
        (48, "2001:db8:0:ff00::1", "2001:db9::1"),
    ] {
        let shares = shares(2, 1);
        let _first = shares.take("2001:db8:0:a::1", 1).unwrap();
        assert!(shares.take(near, 1).is_none(), "/{bits}");
        // A /56 within the same /48 is beside another one, but both are in the /48.
        assert_eq!(shares.take(far, 1).is_some(), bits < 64, "/{bits}");
    }
    assert_eq!(of(address("2001:db8:1:2:3::4")), address("2001:db8:1:2::"));
    assert_eq!(of(address("203.0.113.7")), address("203.0.113.7"));
}

#[test]
fn a_client_gives_way_to_one_that_will_still_have_less() {
    let shares = shares(8, 4);
    let greedy: Vec<_> = (0..4).map(|_| shares.take("203.0.113.1", 1).unwrap()).collect();
    let other: Vec<_> = (0..4).map(|_| shares.take("203.0.113.2", 1).unwrap()).collect();
    let mut third = shares.take("203.0.113.3", 1).unwrap();
    assert!(third.grow(1, 1), "2 of 8, beside 3 and 3 or 4 and 2");
    assert!(!third.grow(1, 1), "with 3, it would not have less than 3");
    let (greedy, other) = (displaced(&greedy), displaced(&other));
    assert_eq!((greedy.len(), other.len()), (1, 1));
    let mut wants_much = shares.of("203.0.113.4");
    assert!(!wants_much.grow(1, 3), "what it is going to need counts");
    assert!(wants_much.grow(1, 1));
}

#[test]
fn what_was_displaced_occupies_nothing_and_does_not_grow() {
    let shares = shares(4, 4);
    let mut greedy = shares.take("203.0.113.1", 4).unwrap();
    let other = shares.take("203.0.113.2", 1).unwrap();
    assert!(greedy.is_displaced());
    assert!(!greedy.grow(1, 1) && !greedy.grow_to_the_end(1));
    drop((greedy, other));
    assert_eq!(shares.table().occupied, 0);
}

#[test]
fn what_is_whole_is_not_displaced_and_counts_for_its_client() {
    let shares = shares(7, 4);
    let mut whole = shares.of("203.0.113.1");
    assert!(whole.grow(2, 3) && whole.grow_to_the_end(1) && whole.grow_to_the_end(0));
    assert!(shares.take("203.0.113.1", 2).is_none(), "with 3, it has 1 left of its part");
    let mut more = shares.take("203.0.113.1", 1).unwrap();
    let other = shares.take("203.0.113.2", 3).unwrap();
    let small = shares.take("203.0.113.3", 1).expect("the greediest gives way with what is not whole");
    assert!(more.is_displaced() && !whole.is_displaced() && !other.is_displaced() && !more.grow(1, 1));
    // An answer takes the place of a request, as large as it is.
    whole.settle(5);
    assert_eq!(shares.counted(), (9, 5, 0));
    assert!(shares.take("203.0.113.1", 1).is_none(), "an answer counts for its client, too");
    drop((whole, more, other, small));
    assert_eq!(shares.counted(), (0, 0, 0));
}

#[test]
fn an_address_has_as_much_of_what_is_whole_as_is_left_at_most() {
    for (clients, each) in [(1, 30), (2, 20), (4, 12), (9, 6)] {
        let shares = shares(60, 30);
        let mut held = Vec::new();
        loop {
            let before = held.len();
            for client in 1..=clients {
                let mut share = shares.of(&format!("203.0.113.{client}"));
                if share.grow_to_the_end(1) {
                    held.push(share);
                }
            }
            if held.len() == before {
                break;
            }
        }
        assert_eq!(held.len(), clients * each, "{clients} addresses");
        let mut newcomer = shares.of("198.51.100.1");
        assert!(newcomer.grow_to_the_end(each), "{clients} addresses leave as much as each has");
    }
}

#[test]
fn where_there_is_no_room_there_is_some_to_spare_for_little_of_a_client_that_occupies_nothing_else() {
    let full = |spare: usize| {
        let bounds = ShareBounds { most: 4, most_each: 4, least: 1, newcomers_first: false, little: 2, spare };
        let shares = Shares::new(bounds);
        let mut whole = shares.of("203.0.113.1");
        assert!(whole.grow_to_the_end(4));
        (shares, whole)
    };
    let (shares, whole) = full(3);
    assert!(shares.take("203.0.113.2", 3).is_none(), "it is not little");
    assert!(!shares.of("203.0.113.2").grow(1, 3), "what it is going to need counts");
    let mut little = shares.of("203.0.113.2");
    assert!(little.grow(1, 2) && little.grow_to_the_end(1));
    assert!(shares.take("203.0.113.2", 1).is_none(), "the client has its little");
    assert!(shares.take("203.0.113.3", 2).is_none(), "there is less to spare");
    let other = shares.take("203.0.113.3", 1).unwrap();
    assert!(shares.take("203.0.113.4", 1).is_none(), "there is nothing left to spare");
    drop((whole, little, other));
    assert_eq!(shares.counted(), (0, 0, 0));

    let (shares, _whole) = full(8);
    let _one = shares.take("2001:db8:0:1::1", 1).unwrap();
    assert!(shares.take("2001:db8:0:2::1", 1).is_none(), "a /48 is one client");
    assert!(shares.take("2001:db9::1", 1).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_longest_idle_connection_of_the_greediest_address_gives_way() {
    let shares = connections(8);
    let of = |client: &str| {
        let activity = Arc::<Activity>::default();
        let mut share = shares.share(Some(address(client)), &activity);
        assert!(share.grow(1, 1));
        (share, activity)
    };
    let mut held = Vec::new();
    for client in ["203.0.113.1", "203.0.113.2", "203.0.113.1", "203.0.113.1", "203.0.113.1", "203.0.113.2"] {
        held.push(of(client));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    held.push(of("203.0.113.3"));
    held.push(of("203.0.113.4"));
    // The first of the greediest has just sent something, and the next answers a request.
    held[0].1.progressed_now();
    let _call = held[2].1.begin(false).handled();
    let _newcomer = of("203.0.113.5");
    assert_eq!(displaced(held.iter().map(|(share, _)| share)), [3]);
    assert!(shares.take("203.0.113.1", 1).is_none(), "not for more of the greediest itself");
}

#[test]
fn a_client_with_one_connection_always_gets_in_and_a_second_one_needs_a_greedier_one() {
    let shares = connections(4);
    let held: Vec<_> = (1..=4).map(|last| shares.take(&format!("203.0.113.{last}"), 1).unwrap()).collect();
    let newcomer = shares.take("203.0.113.5", 1).expect("a new client");
    assert!(shares.take("203.0.113.5", 1).is_none());
    assert_eq!(displaced(&held).len(), 1);
    drop(newcomer);
}

#[test]
fn a_neighbour_of_the_greediest_gets_in_at_the_cost_of_the_greediest() {
    let shares = connections(8);
    // One /64 has all that its /48 may have.
    let greedy: Vec<_> = (0..4).map(|_| shares.take("2001:db8::1", 1).unwrap()).collect();
    let neighbour = shares.take("2001:db8:0:ff00::1", 1).expect("another /56");
    let nearer = shares.take("2001:db8:0:1::1", 1).expect("another /64");
    assert_eq!(displaced(&greedy).len(), 2);
    assert!(!neighbour.is_displaced() && !nearer.is_displaced());
    // However many /64s a /48 has, its part is its part.
    let many: Vec<_> = (0..100).filter_map(|part| shares.take(&format!("2001:db8:0:{part:x}::2"), 1)).collect();
    assert_eq!(shares.table().occupied, 4);
    drop((greedy, neighbour, nearer, many));
}

#[test]
fn a_proxy_has_no_share_of_its_own_and_gives_way_only_where_it_is_idle() {
    let shares = connections(2);
    let idle = shares.proxy().unwrap();
    let activity = Arc::<Activity>::default();
    let _request = activity.begin(false);
    let mut used = shares.share(None, &activity);
    assert!(used.grow(1, 1));
    let client = shares.take("203.0.113.1", 1).expect("a new client");
    assert!(idle.is_displaced() && !used.is_displaced());
    let _another = shares.proxy().expect("a client's connection gives way to a proxy's");
    assert!(client.is_displaced());
}

#[test]
fn a_proxy_gives_way_where_all_that_is_left_to_send_waits() {
    let shares = connections(1);
    let activity = Arc::<Activity>::default();
    let (first, second) = (activity.begin(true), activity.begin(true));
    let mut proxy = shares.share(None, &activity);
    assert!(proxy.grow(1, 1));
    let _one_waits = first.pausing();
    assert!(shares.take("203.0.113.1", 1).is_none(), "the other one is for another client");
    drop(second);
    let _newcomer = shares.take("203.0.113.1", 1).expect("a new client");
    let was_idle = pin!(proxy.displaced()).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(was_idle, std::task::Poll::Ready(false), "it is not waited for");
}

#[test]
fn the_smallest_body_costs_a_page_and_the_bytes_of_that_page_nothing_more() {
    let most = 4 * 4096;
    let bounds = ShareBounds { most, most_each: most, least: 4096, newcomers_first: false, little: 0, spare: 0 };
    let shares = Shares::new(bounds);
    let mut held: Vec<_> = (0..4).map(|_| shares.take("203.0.113.1", 1).unwrap()).collect();
    assert!(shares.take("203.0.113.1", 1).is_none(), "so few are all that there is room for");
    assert!(held[0].grow(4095, 4095) && !held[0].grow(1, 1));
    assert!(held[1].grow_to_the_end(100));
    assert_eq!(shares.table().occupied, 4 * 4096);
    drop(held);
    assert_eq!(shares.table().occupied, 0);
}

#[test]
fn the_largest_of_the_greediest_gives_way_before_the_oldest() {
    let shares = shares(16, 16);
    let small: Vec<_> = (0..8).map(|_| shares.take("203.0.113.1", 1).unwrap()).collect();
    let large = shares.take("203.0.113.1", 8).unwrap();
    let _newcomer = shares.take("203.0.113.2", 4).unwrap();
    assert!(large.is_displaced() && displaced(&small).is_empty());
}

#[test]
fn a_newcomer_displaces_eight_at_most_and_none_where_that_is_not_enough() {
    let shares = shares(40, 40);
    let small: Vec<_> = (0..40).map(|_| shares.take("203.0.113.1", 1).unwrap()).collect();
    assert!(shares.take("203.0.113.2", MOST_DISPLACED + 1).is_none());
    {
        let table = shares.table();
        assert_eq!((table.occupied, table.holders.len(), table.networks.len()), (40, 40, NETWORKS.len()));
        assert_eq!(table.ranks, BTreeMap::from([(40, 1)]));
    }
    assert!(displaced(&small).is_empty());
    let newcomer = shares.take("203.0.113.2", MOST_DISPLACED).unwrap();
    assert_eq!(displaced(&small).len(), MOST_DISPLACED);
    assert_eq!(newcomer.step(), MOST_DISPLACED, "one step finds room, however little each one has");
}

#[test]
fn nothing_is_compared_for_a_newcomer_that_is_the_greediest_itself() {
    let shares = shares(8, 8);
    let _held: Vec<_> = (0..5).map(|_| shares.take("203.0.113.1", 1).unwrap()).collect();
    let _other: Vec<_> = (0..3).map(|_| shares.take("203.0.113.2", 1).unwrap()).collect();
    let table = shares.table();
    for (client, expected) in [("203.0.113.1", true), ("203.0.113.2", false), ("203.0.113.3", false)] {
        assert_eq!(table.is_greediest(Some(networks(address(client))), Obstacle::Full), expected, "{client}");
    }
}

#[test]
fn what_is_displaced_knows_whether_it_was_idle() {
    for busy in [false, true] {
        let shares = connections(1);
        let activity = Arc::<Activity>::default();
        let mut share = shares.share(Some(address("203.0.113.1")), &activity);
        assert!(share.grow(1, 1));
        let _request = busy.then(|| activity.begin(false));
        let _newcomer = shares.take("203.0.113.2", 1).unwrap();
        let was_idle = pin!(share.displaced()).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(was_idle, std::task::Poll::Ready(!busy));
    }
}
