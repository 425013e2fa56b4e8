//! How many turns each client has, and who waits.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use super::*;

const WAIT: Duration = Duration::from_secs(5);

fn turns(most: usize, most_waiting: usize) -> Arc<Turns> {
    Turns::new(most, most_waiting, WAIT)
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A turn, if there is one at once.
fn take(turns: &Arc<Turns>, client: &str) -> Option<HandlerTurn> {
    match poll(pin!(turns.take(client.parse().unwrap()))) {
        Poll::Ready(turn) => turn,
        Poll::Pending => None,
    }
}

fn take_all(turns: &Arc<Turns>, client: &str) -> Vec<HandlerTurn> {
    std::iter::from_fn(|| take(turns, client)).collect()
}

#[tokio::test]
async fn one_address_has_half_of_the_turns_and_four_leave_a_fifth_to_others() {
    let alone = turns(256, 512);
    assert_eq!(take_all(&alone, "203.0.113.1").len(), 128);
    let shared = turns(250, 512);
    let mut held: Vec<_> = (1..=4).map(|last| take_all(&shared, &format!("203.0.113.{last}"))).collect();
    assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [125, 63, 31, 16], "the first ones came first");
    // What ends goes to those that have less.
    held[0].truncate(50);
    held[1].truncate(50);
    for last in [3, 4] {
        let held = held.get_mut(last - 1).unwrap();
        held.extend(take_all(&shared, &format!("203.0.113.{last}")));
    }
    assert!(held.iter().all(|held| held.len() >= 40), "{:?}", held.iter().map(Vec::len).collect::<Vec<_>>());
    assert!(take_all(&shared, "203.0.113.5").len() >= 20);
}

#[tokio::test]
async fn the_addresses_of_one_ipv6_network_have_their_turns_together() {
    for near in ["2001:db8:0:a::ffff:2", "2001:db8:0:ff::1", "2001:db8:0:ff00::1"] {
        let turns = turns(4, 0);
        let _held = take_all(&turns, "2001:db8:0:a::1");
        assert!(take(&turns, near).is_none(), "{near}");
        assert!(take(&turns, "2001:db8:1::1").is_some());
    }
}

#[tokio::test]
async fn an_address_with_nothing_at_work_always_gets_a_turn() {
    let turns = turns(2, 0);
    let held: Vec<_> = (1..=9).filter_map(|last| take(&turns, &format!("203.0.113.{last}"))).collect();
    assert_eq!(held.len(), 9);
    assert!(take(&turns, "203.0.113.1").is_none());
}

#[tokio::test]
async fn a_request_that_waits_goes_on_when_one_of_its_address_ends_and_others_pass_it_meanwhile() {
    let turns = turns(4, 2);
    let mut held = take_all(&turns, "203.0.113.1");
    assert_eq!(held.len(), 2);
    let mut waiting = pin!(turns.take("203.0.113.1".parse().unwrap()));
    assert!(poll(waiting.as_mut()).is_pending());
    assert!(take(&turns, "203.0.113.2").is_some());
    assert!(poll(waiting.as_mut()).is_pending());
    drop(held.pop());
    let Poll::Ready(Some(_turn)) = poll(waiting.as_mut()) else { panic!("it waits still") };
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_so_long_and_no_longer() {
    let turns = turns(2, 2);
    let _held = take_all(&turns, "203.0.113.1");
    {
        let mut waiting = pin!(turns.take("203.0.113.1".parse().unwrap()));
        assert!(poll(waiting.as_mut()).is_pending());
        tokio::time::advance(WAIT - Duration::from_millis(1)).await;
        assert!(poll(waiting.as_mut()).is_pending());
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(matches!(poll(waiting.as_mut()), Poll::Ready(None)));
    }
    let table = turns.table();
    assert_eq!((table.waiting.all, table.queues.len()), (0, 0));
}

#[tokio::test]
async fn one_address_has_half_of_the_places_to_wait() {
    let turns = turns(2, 2);
    let _held = (take(&turns, "203.0.113.1").unwrap(), take(&turns, "203.0.113.2").unwrap());
    let mut first = pin!(turns.take("203.0.113.1".parse().unwrap()));
    assert!(poll(first.as_mut()).is_pending());
    let refused = poll(pin!(turns.take("203.0.113.1".parse().unwrap())));
    assert!(matches!(refused, Poll::Ready(None)), "its places are taken");
    assert!(poll(pin!(turns.take("203.0.113.2".parse().unwrap()))).is_pending(), "those of others are not");
}

#[tokio::test]
async fn a_turn_for_a_request_that_has_gone_is_given_on_and_nothing_is_remembered() {
    let turns = turns(2, 4);
    let held = take(&turns, "203.0.113.1").unwrap();
    let gone = {
        let mut gone = Box::pin(turns.take("203.0.113.1".parse().unwrap()));
        assert!(poll(gone.as_mut()).is_pending());
        gone
    };
    let mut next = pin!(turns.take("203.0.113.1".parse().unwrap()));
    assert!(poll(next.as_mut()).is_pending());
    drop(held);
    // The turn is in the channel of the one that goes now.
    drop(gone);
    let Poll::Ready(Some(turn)) = poll(next.as_mut()) else { panic!("it waits still") };
    drop(turn);
    let table = turns.table();
    assert_eq!((table.at_work.all, table.at_work.networks.len()), (0, 0));
    assert_eq!((table.waiting.all, table.waiting.networks.len(), table.queues.len()), (0, 0, 0));
}

#[test]
fn there_are_no_more_places_than_there_are() {
    let places = Turns::places(8);
    let mut held = Vec::new();
    for last in 1..=6 {
        let client = IpAddr::from([203, 0, 113, last]);
        held.push(std::iter::from_fn(|| places.take_now(client)).collect::<Vec<_>>());
    }
    assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2, 1, 1, 0, 0]);
    drop(held);
    assert!(places.take_now(IpAddr::from([203, 0, 113, 6])).is_some());
}

/// A request that waits.
type Wait = Pin<Box<dyn Future<Output = Option<HandlerTurn>>>>;

/// Requests of an address that wait, as many as may.
fn wait_all(turns: &Arc<Turns>, client: &str) -> Vec<Wait> {
    let client: IpAddr = client.parse().unwrap();
    let wait = || {
        let turns = Arc::clone(turns);
        let mut waiting: Wait = Box::pin(async move { turns.take(client).await });
        poll(waiting.as_mut()).is_pending().then_some(waiting)
    };
    std::iter::from_fn(wait).collect()
}

/// The turns of those that wait no more.
fn begun(waiting: &mut Vec<Wait>) -> Vec<HandlerTurn> {
    let mut begun = Vec::new();
    waiting.retain_mut(|waiting| match poll(waiting.as_mut()) {
        Poll::Ready(turn) => {
            begun.extend(turn);
            false
        }
        Poll::Pending => true,
    });
    begun
}

#[tokio::test]
async fn two_addresses_leave_places_to_wait_to_a_third_one() {
    let turns = turns(4, 16);
    let clients = ["203.0.113.1", "203.0.113.2", "203.0.113.3"];
    let _held: Vec<_> = clients.iter().map(|client| take_all(&turns, client)).collect();
    let waiting: Vec<_> = clients.iter().map(|client| wait_all(&turns, client)).collect();
    assert_eq!(waiting.iter().map(Vec::len).collect::<Vec<_>>(), [8, 4, 2]);
    assert_eq!(turns.table().waiting.all, 14);
    drop(waiting);
    let table = turns.table();
    assert_eq!((table.waiting.all, table.waiting.networks.len(), table.queues.len()), (0, 0, 0));
}

#[tokio::test]
async fn addresses_that_wait_go_on_in_turn() {
    let turns = turns(4, 16);
    let mut held = take_all(&turns, "203.0.113.1");
    let (_second, third) = (take(&turns, "203.0.113.2").unwrap(), take(&turns, "203.0.113.3").unwrap());
    let mut first_waits = wait_all(&turns, "203.0.113.1");
    let mut second_waits = wait_all(&turns, "203.0.113.2");
    drop(third);
    assert_eq!((begun(&mut first_waits).len(), begun(&mut second_waits).len()), (0, 0), "what is left is for others");
    drop(held.pop());
    let first = begun(&mut first_waits);
    assert_eq!((first.len(), begun(&mut second_waits).len()), (1, 0));
    drop(held.pop());
    assert_eq!((begun(&mut first_waits).len(), begun(&mut second_waits).len()), (0, 1));
}
