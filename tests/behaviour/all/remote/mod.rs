//! The remote server: the component under wasmtime, two replicas on one store, each request to the other one.

mod access;
mod agents;
mod attacks;
mod audit;
mod authorization;
mod bearer;
mod bodies;
mod claims;
mod contexts;
mod discovery;
mod evasion;
mod fairness;
mod floods;
mod flow;
mod gateway;
mod handed_out;
mod refresh;
mod revocation;
mod sample_defects;
mod shared_instance;
mod tools;
mod transport;
