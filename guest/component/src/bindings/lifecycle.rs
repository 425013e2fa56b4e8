//! Converts to the types of `lifecycle`.

use super::exports::entra_mcp::plugin::lifecycle as wit;
use entra::check::{Problem, Subject};

impl From<Problem> for wit::Problem {
    fn from(problem: Problem) -> Self {
        let Problem { about, code, message } = problem;
        let about = match about {
            Subject::Settings => wit::Subject::Settings,
            Subject::Authority => wit::Subject::Authority,
            Subject::SigningKeys => wit::Subject::SigningKeys,
            Subject::ClientCredential => wit::Subject::ClientCredential,
            Subject::Clock => wit::Subject::Clock,
        };
        Self { about, code, message }
    }
}
