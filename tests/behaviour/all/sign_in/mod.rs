//! A person signs in to the component: through the browser, with a code, shown by the client.

#[cfg(target_os = "linux")]
mod broker;
mod browser;
mod client;
mod device_code;
mod graph;
mod refusals;
mod session;
