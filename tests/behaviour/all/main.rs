//! All behaviour tests, in one binary so that they link once.

#![allow(clippy::type_complexity, reason = "tables of cases have a type of their own")]

#[cfg(test)]
#[cfg(unix)]
mod clients;
#[cfg(test)]
mod contract;
#[cfg(test)]
#[cfg(unix)]
mod credentials;
#[cfg(test)]
#[cfg(unix)]
mod doctor;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod emulator;
#[cfg(test)]
#[cfg(unix)]
mod host;
#[cfg(test)]
#[cfg(unix)]
mod middleware;
#[cfg(test)]
#[cfg(unix)]
mod packaging;
#[cfg(test)]
#[cfg(unix)]
mod proxies;
#[cfg(test)]
mod remote;
#[cfg(test)]
#[cfg(unix)]
mod setup;
#[cfg(test)]
mod sign_in;
#[cfg(test)]
#[cfg(unix)]
mod smaller_world;
#[cfg(test)]
#[cfg(unix)]
mod standard;
#[cfg(test)]
#[cfg(unix)]
mod stores;
#[cfg(test)]
mod support;
#[cfg(test)]
mod token;
#[cfg(test)]
mod tool_components;
#[cfg(test)]
#[cfg(unix)]
mod tools;
#[cfg(test)]
mod tutorial;
#[cfg(test)]
mod verdict;
#[cfg(test)]
#[cfg(unix)]
mod wasmcp;
#[cfg(test)]
#[cfg(unix)]
mod wassette;
#[cfg(test)]
#[cfg(unix)]
mod wrapped;
