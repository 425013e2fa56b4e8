//! Proxies that ask the program at `/auth` about each request (`docs/src/how-to/behind-your-proxy.md`): real ones, with the
//! configurations of that page, between a client and a server that knows nothing of Entra ID.

mod scenarios;
mod site;
mod start;
mod traefik;

/// The tests behind one proxy.
macro_rules! behind {
    ($module:ident, $proxy:ident, [$($have:tt)*], $reason:literal) => {
        mod $module {
            use super::scenarios;
            use super::site::Kind;

            #[tokio::test]
            #[cfg_attr(not($($have)*), ignore = $reason)]
            async fn a_client_without_a_token_is_told_where_to_sign_in() {
                scenarios::challenge(Kind::$proxy).await;
            }

            #[tokio::test]
            #[cfg_attr(not($($have)*), ignore = $reason)]
            async fn the_server_behind_learns_who_calls_and_nothing_that_the_client_claims_or_holds() {
                scenarios::identity(Kind::$proxy).await;
            }

            #[tokio::test]
            #[cfg_attr(not($($have)*), ignore = $reason)]
            async fn a_caller_that_a_rule_is_against_is_refused_whatever_tool_the_header_names() {
                scenarios::rules(Kind::$proxy).await;
            }

            #[tokio::test]
            #[cfg_attr(not($($have)*), ignore = $reason)]
            async fn a_missing_scope_is_named_to_the_client() {
                scenarios::scopes(Kind::$proxy).await;
            }

            #[tokio::test]
            #[cfg_attr(not($($have)*), ignore = $reason)]
            async fn the_server_behind_gets_a_token_of_its_own_in_the_name_of_the_caller() {
                scenarios::delegation(Kind::$proxy).await;
            }

            #[tokio::test]
            #[cfg_attr(not($($have)*), ignore = $reason)]
            async fn the_server_behind_gets_an_assertion_that_says_nothing_of_the_body() {
                scenarios::assertion(Kind::$proxy).await;
            }

            #[tokio::test]
            #[cfg_attr(not($($have)*), ignore = $reason)]
            async fn no_path_and_no_header_leads_past_the_question() {
                scenarios::evasion(Kind::$proxy).await;
            }

            #[tokio::test]
            #[cfg_attr(not($($have)*), ignore = $reason)]
            async fn events_arrive_one_by_one() {
                scenarios::events(Kind::$proxy).await;
            }

            #[tokio::test]
            #[cfg_attr(not($($have)*), ignore = $reason)]
            async fn nothing_passes_while_there_is_no_answer() {
                scenarios::outage(Kind::$proxy).await;
            }
        }
    };
}

behind!(nginx, Nginx, [tool = "nginx"], "needs nginx: use tests/run");
behind!(caddy, Caddy, [tool = "caddy"], "needs caddy: use tests/run");
behind!(envoy, Envoy, [client = "envoy"], "needs the client envoy: use tests/run");
