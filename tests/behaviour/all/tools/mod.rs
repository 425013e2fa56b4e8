//! Tools of the user's own: projects that the program writes, and components that it runs.

mod inspect;
mod projects;
mod tutorials;
