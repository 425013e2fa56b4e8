//! An identity broker that says what a test wants.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use base::Secret;

use super::World;
use crate::capabilities::*;

/// Tokens that the broker gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenTokens {
    /// The access token.
    pub access_token: String,
    /// Unix time in seconds.
    pub expires_at: u64,
    /// The ID token.
    pub id_token: String,
}

/// An answer; `None` while the person is at it.
type Given = Option<Result<GivenTokens, BrokerError>>;

#[derive(Default)]
pub(super) struct FakeBroker {
    accounts: RefCell<Option<Result<Vec<BrokerAccount>, BrokerError>>>,
    silent: RefCell<VecDeque<Result<GivenTokens, BrokerError>>>,
    interactive: RefCell<VecDeque<Given>>,
    asked: RefCell<Vec<(&'static str, Option<BrokerRequest>)>>,
}

impl World {
    /// There is a broker, which lists these accounts.
    pub fn broker_lists(&self, accounts: Result<Vec<BrokerAccount>, BrokerError>) {
        *self.0.broker.accounts.borrow_mut() = Some(accounts);
    }

    /// What the broker answers to the next request without the person.
    pub fn broker_gives(&self, answer: Result<GivenTokens, BrokerError>) {
        self.0.broker.silent.borrow_mut().push_back(answer);
    }

    /// What comes of it when the broker asks the person; `None`: a second in which nothing comes.
    pub fn person_at_broker(&self, answer: Given) {
        self.0.broker.interactive.borrow_mut().push_back(answer);
    }

    /// What the broker was asked: the function, and the request if it has one.
    pub fn asked_of_broker(&self) -> Vec<(&'static str, Option<BrokerRequest>)> {
        self.0.broker.asked.borrow().clone()
    }
}

fn tokens(given: GivenTokens) -> BrokerTokens {
    let GivenTokens { access_token, expires_at, id_token } = given;
    BrokerTokens { access_token: Secret::new(access_token), expires_at, id_token: Secret::new(id_token) }
}

impl Broker for World {
    fn accounts(&self, _: &str, _: &str) -> Result<Vec<BrokerAccount>, BrokerError> {
        self.0.broker.asked.borrow_mut().push(("accounts", None));
        self.0.broker.accounts.borrow().clone().unwrap_or_else(|| Err(BrokerError::Absent("none runs".to_owned())))
    }

    fn acquire_silently(&self, request: &BrokerRequest) -> Result<BrokerTokens, BrokerError> {
        self.0.broker.asked.borrow_mut().push(("silently", Some(request.clone())));
        let answer = self.0.broker.silent.borrow_mut().pop_front();
        answer.unwrap_or(Err(BrokerError::InteractionRequired)).map(tokens)
    }

    fn ask_person(&self, request: &BrokerRequest) -> Box<dyn BrokerInteraction> {
        self.0.broker.asked.borrow_mut().push(("person", Some(request.clone())));
        Box::new(self.clone())
    }
}

impl BrokerInteraction for World {
    fn wait(&self, timeout: Duration) -> Option<Result<BrokerTokens, BrokerError>> {
        let next = self.0.broker.interactive.borrow_mut().pop_front().flatten();
        if next.is_none() {
            self.advance(timeout);
        }
        next.map(|answer| answer.map(tokens))
    }
}
