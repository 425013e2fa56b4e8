//! Several that want the same: no record is lost, and none is had twice.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{Bench, Kind, bytes, for_each_store, text};

/// How many connections, each as another process would have one.
const COMPETITORS: usize = 8;

/// Operations of each.
const OPERATIONS: usize = 50;

for_each_store! {
    of_all_that_take_a_record_one_gets_it;
    of_all_that_make_a_record_one_has_made_it;
    no_swap_is_lost;
}

async fn of_all_that_take_a_record_one_gets_it(kind: Kind) {
    let bench = Bench::new(kind).await;
    let stores = join_all((0..COMPETITORS).map(|_| bench.open())).await;
    for round in 0..OPERATIONS {
        let name = format!("code/{round}");
        stores[round % COMPETITORS].put(&name, bytes("once"), None).await.unwrap();
        let takers = stores.iter().map(|store| {
            let (store, name) = (Arc::clone(store), name.clone());
            tokio::spawn(async move { store.take(&name).await.unwrap().is_some() })
        });
        let winners = join_all(takers).await.into_iter().filter(|taken| *taken.as_ref().unwrap()).count();
        assert_eq!(winners, 1, "{round}");
    }
}

async fn of_all_that_make_a_record_one_has_made_it(kind: Kind) {
    let bench = Bench::new(kind).await;
    let stores = join_all((0..COMPETITORS).map(|_| bench.open())).await;
    for round in 0..OPERATIONS {
        let name = format!("lease/{round}");
        let makers = stores.iter().enumerate().map(|(number, store)| {
            let (store, name, value) = (Arc::clone(store), name.clone(), bytes(&number.to_string()));
            tokio::spawn(async move { store.compare_and_swap(&name, None, value, None).await.unwrap() })
        });
        let made: Vec<bool> = join_all(makers).await.into_iter().map(|made| made.unwrap()).collect();
        let winner: usize = text(stores[0].get(&name).await.unwrap()).unwrap().parse().unwrap();
        let winners: Vec<usize> = (0..COMPETITORS).filter(|number| made[*number]).collect();
        assert_eq!(winners, [winner], "{round}");
    }
}

async fn no_swap_is_lost(kind: Kind) {
    let bench = Bench::new(kind).await;
    bench.open().await.put("counter", bytes("0"), None).await.unwrap();
    let stores = join_all((0..COMPETITORS).map(|_| bench.open())).await;
    let writers = stores.iter().map(|store| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let mut done = 0;
            while done < OPERATIONS {
                let current = store.get("counter").await.unwrap();
                let next = text(current.clone()).unwrap().parse::<usize>().unwrap() + 1;
                let swapped = store.compare_and_swap("counter", current, bytes(&next.to_string()), None).await;
                done += usize::from(swapped.unwrap());
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let all = (COMPETITORS * OPERATIONS).to_string();
    assert_eq!(text(stores[0].get("counter").await.unwrap()), Some(all));
}
