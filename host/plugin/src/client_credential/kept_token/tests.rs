use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::*;
use crate::clock::ManualClock;

const NOW: u64 = 1_000;

/// A source that answers when it is told.
#[derive(Clone, Default)]
struct Source(Arc<SourceState>);

#[derive(Default)]
struct SourceState {
    asked: AtomicUsize,
    is_asked: Notify,
    answer: Mutex<Option<tokio::sync::oneshot::Sender<Result<Token, &'static str>>>>,
}

impl Source {
    async fn ask(&self) -> Result<Token, &'static str> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        *lock(&self.0.answer) = Some(sender);
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        self.0.is_asked.notify_one();
        receiver.await.unwrap()
    }

    /// Answers the question of now, or the next one.
    async fn answers(&self, answer: Result<(&str, u64), &'static str>) {
        self.0.is_asked.notified().await;
        let token = answer.map(|(text, expires)| Token { text: Zeroizing::new(text.to_owned()), expires });
        let asked = lock(&self.0.answer).take().unwrap();
        assert!(asked.send(token).is_ok(), "the call that asks is there");
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::Relaxed)
    }
}

struct Bench {
    kept: Arc<KeptToken<&'static str>>,
    source: Source,
    clock: ManualClock,
}

type Call = tokio::task::JoinHandle<Result<String, &'static str>>;

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::new(NOW);
        let kept = Arc::new(KeptToken::new("the source", Arc::new(clock.clone())));
        Self { kept, source: Source::default(), clock }
    }

    /// With the token `one`, which is good for so many seconds, and of which so many are over.
    async fn with_token(lifetime: u64, passed: u64) -> Self {
        let bench = Self::new();
        let (token, ()) = tokio::join!(bench.token(), bench.source.answers(Ok(("one", NOW + lifetime))));
        assert_eq!(token.as_deref(), Ok("one"));
        bench.clock.advance(Duration::from_secs(passed));
        bench
    }

    async fn token(&self) -> Result<String, &'static str> {
        self.kept.token(self.source.ask()).await.map(|token| token.to_string())
    }

    /// A call on a task of its own, which has come as far as it can.
    async fn call(&self) -> Call {
        let (kept, source) = (Arc::clone(&self.kept), self.source.clone());
        let call = tokio::spawn(async move { kept.token(source.ask()).await.map(|token| token.to_string()) });
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        call
    }
}

#[tokio::test]
async fn a_token_that_is_good_is_answered_while_a_renewal_goes_on() {
    let bench = Bench::with_token(3_600, 3_400).await;
    let renewal = bench.call().await;
    assert_eq!(bench.source.asked(), 2);
    for _ in 0..3 {
        let call = bench.call().await;
        assert!(call.is_finished(), "it waits for nothing");
        assert_eq!(call.await.unwrap().as_deref(), Ok("one"));
    }
    bench.source.answers(Ok(("two", NOW + 7_200))).await;
    assert_eq!(renewal.await.unwrap().as_deref(), Ok("two"));
    assert_eq!((bench.token().await.as_deref(), bench.source.asked()), (Ok("two"), 2));
}

#[tokio::test]
async fn calls_without_a_token_wait_for_one_question_and_share_what_it_brings() {
    // The second token is over at once, and the third does not say when it ends: that is all that the source has.
    for expires in [NOW + 3_600, NOW, 0] {
        let bench = Bench::new();
        let calls = [bench.call().await, bench.call().await, bench.call().await];
        bench.source.answers(Ok(("one", expires))).await;
        for call in calls {
            assert_eq!(call.await.unwrap().as_deref(), Ok("one"));
        }
        assert_eq!(bench.source.asked(), 1);
    }
}

#[tokio::test]
async fn calls_that_wait_share_a_failure_which_is_remembered_for_some_seconds() {
    let bench = Bench::new();
    let calls = [bench.call().await, bench.call().await, bench.call().await];
    bench.source.answers(Err("it is away")).await;
    for call in calls {
        assert_eq!(call.await.unwrap(), Err("it is away"));
    }
    bench.clock.advance(FAILED - Duration::from_nanos(1));
    assert_eq!((bench.token().await, bench.source.asked()), (Err("it is away"), 1));
    bench.clock.advance(Duration::from_nanos(1));
    let (token, ()) = tokio::join!(bench.token(), bench.source.answers(Ok(("one", NOW + 3_600))));
    assert_eq!((token.as_deref(), bench.source.asked()), (Ok("one"), 2));
}

#[tokio::test]
async fn a_source_that_has_failed_is_left_alone_while_the_last_token_is_good() {
    let bench = Bench::with_token(3_600, 3_400).await;
    let (token, ()) = tokio::join!(bench.token(), bench.source.answers(Err("it is away")));
    assert_eq!(token.as_deref(), Ok("one"));
    assert_eq!((bench.token().await.as_deref(), bench.source.asked()), (Ok("one"), 2));
    // The wall clock may be set; the pause goes by the other one.
    bench.clock.set_back(Duration::from_secs(100));
    bench.clock.advance(FAILED);
    let (token, ()) = tokio::join!(bench.token(), bench.source.answers(Ok(("two", NOW + 7_200))));
    assert_eq!((token.as_deref(), bench.source.asked()), (Ok("two"), 3));
}

#[tokio::test]
async fn a_token_that_is_over_is_not_answered() {
    let bench = Bench::with_token(3_600, 3_600).await;
    let (token, ()) = tokio::join!(bench.token(), bench.source.answers(Err("it is away")));
    assert_eq!(token, Err("it is away"));
}

#[tokio::test]
async fn where_the_call_that_asks_is_cancelled_another_one_asks() {
    let bench = Bench::new();
    let (first, second) = (bench.call().await, bench.call().await);
    bench.source.0.is_asked.notified().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    bench.source.answers(Ok(("one", NOW + 3_600))).await;
    assert_eq!((second.await.unwrap().as_deref(), bench.source.asked()), (Ok("one"), 2));
}

#[tokio::test]
async fn a_token_that_was_refused_is_forgotten_and_no_other() {
    let bench = Bench::with_token(3_600, 0).await;
    bench.kept.forget(&Credential::Assertion(Zeroizing::new("other".to_owned())));
    assert_eq!((bench.token().await.as_deref(), bench.source.asked()), (Ok("one"), 1));
    bench.kept.forget(&Credential::Assertion(Zeroizing::new("one".to_owned())));
    let (token, ()) = tokio::join!(bench.token(), bench.source.answers(Ok(("two", NOW + 3_600))));
    assert_eq!((token.as_deref(), bench.source.asked()), (Ok("two"), 2));
}

#[tokio::test]
async fn the_call_that_renews_does_not_wait_for_a_silent_source_while_its_token_is_good_for_longer() {
    let bench = Bench::with_token(3_600, 3_400).await;
    for asked in [2, 3] {
        let renewal = bench.call().await;
        assert_eq!((bench.source.asked(), bench.clock.next_wait().await), (asked, PATIENCE));
        bench.clock.advance(PATIENCE);
        assert_eq!(renewal.await.unwrap().as_deref(), Ok("one"));
        // It is left alone for a while.
        bench.clock.advance(SILENT - Duration::from_nanos(1));
        assert_eq!((bench.token().await.as_deref(), bench.source.asked()), (Ok("one"), asked));
        bench.clock.advance(Duration::from_nanos(1));
    }
    bench.source.0.is_asked.notified().await;
    let (token, ()) = tokio::join!(bench.token(), bench.source.answers(Ok(("two", NOW + 7_200))));
    assert_eq!((token.as_deref(), bench.source.asked()), (Ok("two"), 4));
}

#[tokio::test]
async fn a_silent_source_is_waited_for_when_the_token_is_about_to_end() {
    let bench = Bench::with_token(3_600, 3_540).await;
    let renewal = bench.call().await;
    bench.clock.advance(PATIENCE * 2);
    bench.source.answers(Ok(("two", NOW + 7_200))).await;
    assert_eq!(renewal.await.unwrap().as_deref(), Ok("two"));
}
