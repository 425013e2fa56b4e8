//! What known families of MCP clients make of a server. Looked up in their sources and issue trackers (2026-11).

use super::report::Finding;

/// What a visit has found.
#[derive(Debug, Default, Clone)]
pub(super) struct VisitFacts {
    pub(super) is_local: bool,
    pub(super) has_resource_metadata: bool,
    pub(super) resource: String,
    pub(super) resource_matches: bool,
    pub(super) server_is_entra: bool,
    pub(super) has_server_metadata: bool,
    pub(super) issuer: Option<String>,
    pub(super) issuer_matches: bool,
    pub(super) publishes_s256: bool,
    pub(super) registers: bool,
    pub(super) reads_documents: bool,
    pub(super) challenge_scope: Option<String>,
    pub(super) short_scope: bool,
    pub(super) foreign_scope: bool,
}

/// A family of clients, by what it insists on.
struct ClientFamily {
    name: &'static str,
    /// Compares `resource` with the URL.
    compares_resource: bool,
    /// Compares `issuer` with the name of the authorization server.
    compares_issuer: bool,
    /// Refuses metadata without `issuer`.
    needs_issuer: bool,
    /// Refuses metadata without S256.
    needs_s256: bool,
    /// Comes from the servers of its maker, not from the person's machine.
    is_remote: bool,
    /// What people have to do besides.
    note: Option<&'static str>,
}

const PLAIN: ClientFamily = ClientFamily {
    name: "",
    compares_resource: true,
    compares_issuer: false,
    needs_issuer: false,
    needs_s256: false,
    is_remote: false,
    note: None,
};

const FAMILIES: [ClientFamily; 7] = [
    ClientFamily { name: "C# SDK", compares_issuer: true, needs_issuer: true, needs_s256: true, ..PLAIN },
    ClientFamily { name: "TypeScript SDK", ..PLAIN },
    ClientFamily { name: "Python SDK", compares_issuer: true, needs_issuer: true, ..PLAIN },
    ClientFamily { name: "Rust SDK (rmcp)", needs_issuer: true, ..PLAIN },
    ClientFamily { name: "Claude", compares_issuer: true, needs_issuer: true, is_remote: true, ..PLAIN },
    ClientFamily { name: "VS Code", ..PLAIN },
    ClientFamily {
        name: "Copilot Studio",
        is_remote: true,
        note: Some(
            "its redirect URI, https://global.consent.azure-apim.net/redirect/…, has to be registered where clients do not \
             register themselves",
        ),
        ..PLAIN
    },
];

/// What each family will do.
pub(super) fn predictions(facts: &VisitFacts) -> Vec<Finding> {
    FAMILIES.iter().map(|family| family.prediction(facts)).collect()
}

impl ClientFamily {
    fn prediction(&self, facts: &VisitFacts) -> Finding {
        let name = self.name;
        if self.is_remote && facts.is_local {
            let what = format!("{name} does not reach the server: it calls from the servers of its maker");
            return Finding::warning("client", what, "give it the URL that the server has on the Internet");
        }
        if let Some((reason, change)) = self.stops_at(facts) {
            return Finding::failure("client", format!("{name} {reason}"), change);
        }
        let known = facts.registers || facts.reads_documents;
        let mut what = format!("{name} gets a token");
        if !known {
            what.push_str(", once it was given a client id");
        }
        match self.note.filter(|_| !known) {
            Some(note) => Finding::warning("client", what, note),
            None => Finding::good("client", what),
        }
    }

    /// The first thing that ends the sign-in, and what to change. What to change in full is said above, of the server.
    fn stops_at(&self, facts: &VisitFacts) -> Option<(String, &'static str)> {
        let stops = |reason: &str, change| Some((reason.to_owned(), change));
        if !facts.has_resource_metadata {
            return stops(
                "finds no metadata of the resource, and shows that authorization failed",
                "let the server answer with 401 and the place of its metadata, and the proxy pass /.well-known/ on to it: see \
                 ✗ above",
            );
        }
        if self.compares_resource && !facts.resource_matches {
            return Some((
                format!("refuses the server: its metadata are about {:?}", facts.resource),
                "set --public-url to the URL that this client is given, or give it the URL that `resource` has",
            ));
        }
        if !facts.has_server_metadata {
            return stops(
                "finds no authorization server",
                "correct `authorization_servers` in the metadata of the resource, or let the proxy pass the metadata of that \
                 server on: see ✗ above",
            );
        }
        if self.needs_issuer && facts.issuer.is_none() {
            return stops(
                "refuses metadata without an issuer",
                "publish `issuer` in the metadata of the authorization server",
            );
        }
        if self.compares_issuer && !facts.issuer_matches {
            return stops(
                "refuses the authorization server: its issuer is not the name that the resource has for it",
                "write the same text into `issuer` and `authorization_servers`: see ✗ above",
            );
        }
        if self.needs_s256 && !facts.publishes_s256 {
            return stops(
                "refuses the authorization server: it does not publish S256",
                "publish `code_challenge_methods_supported` with S256; of Entra ID, serve with --rewrite-authority-metadata or \
                 --token-mode session",
            );
        }
        if facts.server_is_entra && (facts.short_scope || facts.foreign_scope) {
            let code = if facts.foreign_scope { "AADSTS9010010" } else { "AADSTS650053 or AADSTS9010010" };
            return Some((
                format!("sends the person to Entra ID, which refuses `scope` and `resource` together ({code})"),
                "name the scopes in full, below an App ID URI that is the URL of the endpoint: see ✗ above; or serve with \
                 --token-mode session",
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::report::Severity;

    fn good() -> VisitFacts {
        VisitFacts {
            has_resource_metadata: true,
            resource: "https://mcp.example.com/mcp".to_owned(),
            resource_matches: true,
            has_server_metadata: true,
            issuer: Some("https://mcp.example.com".to_owned()),
            issuer_matches: true,
            publishes_s256: true,
            registers: true,
            ..VisitFacts::default()
        }
    }

    /// The families that fail.
    fn failing(facts: &VisitFacts) -> Vec<&'static str> {
        let predictions = predictions(facts);
        FAMILIES
            .iter()
            .zip(predictions)
            .filter(|(_, found)| found.severity == Severity::Failure)
            .map(|(family, _)| family.name)
            .collect()
    }

    #[test]
    fn a_server_that_is_right_serves_all() {
        assert_eq!(failing(&good()), [""; 0]);
    }

    #[test]
    fn each_family_stops_at_what_it_insists_on() {
        let all = FAMILIES.map(|family| family.name);
        assert_eq!(failing(&VisitFacts { resource_matches: false, ..good() }), all);
        assert_eq!(failing(&VisitFacts { has_server_metadata: false, ..good() }), all);
        assert_eq!(failing(&VisitFacts { server_is_entra: true, short_scope: true, ..good() }), all);
        assert_eq!(failing(&VisitFacts { server_is_entra: true, foreign_scope: true, ..good() }), all);
        assert_eq!(failing(&VisitFacts { issuer_matches: false, ..good() }), ["C# SDK", "Python SDK", "Claude"]);
        assert_eq!(failing(&VisitFacts { publishes_s256: false, ..good() }), ["C# SDK"]);
        assert_eq!(
            failing(&VisitFacts { issuer: None, issuer_matches: false, ..good() }),
            ["C# SDK", "Python SDK", "Rust SDK (rmcp)", "Claude"]
        );
    }

    #[test]
    fn each_prediction_of_a_fault_says_what_to_change() {
        for facts in [
            VisitFacts::default(),
            VisitFacts { resource_matches: false, ..good() },
            VisitFacts { has_server_metadata: false, ..good() },
            VisitFacts { issuer: None, issuer_matches: false, ..good() },
            VisitFacts { publishes_s256: false, ..good() },
            VisitFacts { server_is_entra: true, short_scope: true, ..good() },
            VisitFacts { is_local: true, registers: false, ..good() },
        ] {
            let faults = predictions(&facts).into_iter().filter(|found| found.severity > Severity::Skipped);
            let faults: Vec<_> = faults.collect();
            assert!(!faults.is_empty());
            assert!(
                faults.iter().all(|found| found.change.as_deref().is_some_and(|change| change.len() > 10)),
                "{faults:?}"
            );
        }
    }

    #[test]
    fn a_redirect_has_to_be_registered_where_clients_do_not_register_themselves() {
        let notes = |facts: &VisitFacts| {
            predictions(facts).into_iter().filter(|found| found.severity == Severity::Warning).count()
        };
        assert_eq!((notes(&good()), notes(&VisitFacts { registers: false, ..good() })), (0, 1));
        assert_eq!(notes(&VisitFacts { is_local: true, ..good() }), 2, "two of them do not reach this machine");
    }
}
