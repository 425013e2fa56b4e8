//! Tools of the user's own: projects that the program writes, components that it runs, and servers that it protects.

mod assertion;
mod hostile;
mod inspect;
mod languages;
pub(crate) mod mail;
mod projects;
mod protected;
mod resources;
mod tutorials;
mod whole_servers;
