//! Whatever clients, browsers and Entra ID send to the remote server, one request after the other: the checks of
//! `entra_mcp_guest_fuzz` hold for every answer.
#![no_main]

use std::cell::RefCell;

use entra_mcp_guest_fuzz::Server;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static SERVER: RefCell<Server> = RefCell::default();
}

fuzz_target!(|conversation: &str| SERVER.with_borrow_mut(|server| server.converse(conversation)));
