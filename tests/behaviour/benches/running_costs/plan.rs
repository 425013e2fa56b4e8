//! What the command line asks for.

use std::time::Duration;

/// Sessions in a store that is full, unless the command line says otherwise: filled within a minute or two.
const SESSIONS: usize = 100_000;
/// How long the soak lasts, unless the command line says otherwise.
const SOAK: Duration = Duration::from_secs(2 * 60);

/// How long everything but the soak and the filling of the store may take.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// Sessions that are written in a second, at least.
const SESSIONS_PER_SECOND: u64 = 200;

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Calls,
    Memory,
    Waiting,
    Idle,
    Growth,
    Starts,
    Soak,
}

impl Part {
    const ALL: [Self; 7] =
        [Self::Calls, Self::Memory, Self::Waiting, Self::Idle, Self::Growth, Self::Starts, Self::Soak];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Memory => "memory",
            Self::Waiting => "waiting",
            Self::Idle => "idle",
            Self::Growth => "growth",
            Self::Starts => "starts",
            Self::Soak => "soak",
        }
    }
}

/// The names of all parts.
pub(crate) fn names() -> [&'static str; 7] {
    Part::ALL.map(Part::name)
}

pub(crate) struct Plan {
    /// In the store that is full.
    pub(crate) sessions: usize,
    /// How long the soak lasts.
    pub(crate) soak: Duration,
    pub(crate) writes_docs: bool,
    /// None: all of them.
    named: Vec<Part>,
}

impl Plan {
    /// `None`: the arguments mean nothing. A number belongs to the part before it.
    pub(crate) fn of(arguments: impl IntoIterator<Item = String>) -> Option<Self> {
        let mut plan = Self { sessions: SESSIONS, soak: SOAK, writes_docs: false, named: Vec::new() };
        // Cargo has an argument of its own.
        for argument in arguments.into_iter().filter(|argument| argument != "--bench") {
            if argument == "--write-docs" {
                plan.writes_docs = true;
            } else if let Some(part) = Part::ALL.into_iter().find(|part| part.name() == argument) {
                plan.named.push(part);
            } else {
                let number = argument.parse::<u32>().ok().filter(|number| *number > 0)?;
                match plan.named.last()? {
                    Part::Growth => plan.sessions = usize::try_from(number).ok()?,
                    Part::Soak => plan.soak = Duration::from_secs(60 * u64::from(number)),
                    _ => return None,
                }
            }
        }
        // A page with some of the figures of another run would compare what was not measured together.
        (plan.named.is_empty() || !plan.writes_docs).then_some(plan)
    }

    pub(crate) fn parts(&self) -> Vec<Part> {
        if self.named.is_empty() { Part::ALL.to_vec() } else { self.named.clone() }
    }

    /// How long all of it may take.
    pub(crate) fn limit(&self) -> Duration {
        let filling = Duration::from_secs(u64::try_from(self.sessions).unwrap_or(u64::MAX) / SESSIONS_PER_SECOND);
        LIMIT + self.soak + filling
    }
}
