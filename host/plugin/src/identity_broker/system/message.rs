//! The JSON that the Microsoft identity broker is asked with and answers with. Microsoft does not publish it; other clients of
//! the broker agree on it.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use crate::identity_broker::{BrokerAccount, BrokerError, BrokerRequest, BrokerTokens};

/// `authorizationType`: OAuth 2.0.
const OAUTH_2: u8 = 8;

/// `uxContextHandle`: the window of the broker belongs to no other window.
const NO_WINDOW: i8 = -1;

/// What closes a window. The window is named by the correlation id that both calls have, and the request has no
/// members: that is the schema of Microsoft's broker 2.0.1. A client of version 3.0.2 has seen it end itself on this
/// call, which closes the window as well; the bus starts it again for the next one.
pub(super) const CANCEL_REQUEST: &str = "{}";

/// Times before this are seconds, and not the milliseconds that Microsoft's broker counts: in milliseconds, it is in 1973.
const EARLIEST_MILLISECONDS: u64 = 100_000_000_000;

/// `status` of an error, as Microsoft's libraries number them.
mod status {
    pub(super) const INTERACTION_REQUIRED: u64 = 2;
    pub(super) const NO_NETWORK: u64 = 3;
    pub(super) const NETWORK_UNAVAILABLE: u64 = 4;
    pub(super) const SERVER_UNAVAILABLE: u64 = 5;
    pub(super) const USER_CANCELLED: u64 = 7;
    pub(super) const APPLICATION_CANCELLED: u64 = 8;
    pub(super) const ACCOUNT_UNUSABLE: u64 = 13;
}

/// An account as the broker has listed it: it wants all of it back.
pub(super) struct Known(Map<String, Value>);

impl Known {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// `None` for an account that cannot be named. The object id is that in the tenant (`realm`) for which it is listed.
    pub(super) fn account(&self) -> Option<BrokerAccount> {
        let in_tenant = self.text("localAccountId").zip(self.text("realm"));
        let home_account_id = match in_tenant {
            Some((object, tenant)) => format!("{object}.{tenant}"),
            None => self.text("homeAccountId")?.to_owned(),
        };
        Some(BrokerAccount { home_account_id, username: self.text("username").unwrap_or_default().to_owned() })
    }
}

/// Where the broker receives the answers of Entra ID: a redirect URI that the application has to have.
fn redirect_uri(authority: Option<&str>) -> String {
    let authority = authority.and_then(|authority| authority.rsplit_once('/'));
    let host = authority.map_or("https://login.microsoftonline.com", |(host, _)| host);
    format!("{host}/common/oauth2/nativeclient")
}

#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only the bus of Linux is asked"))]
pub(super) fn accounts_request(client_id: &str, authority: Option<&str>) -> String {
    json!({ "clientId": client_id, "redirectUri": redirect_uri(authority) }).to_string()
}

pub(super) fn token_request(request: &BrokerRequest, account: Option<&Known>) -> String {
    let BrokerRequest { client_id, authority, scopes, login_hint, claims, .. } = request;
    let mut parameters = json!({
        "additionalQueryParametersForAuthorization": {},
        "authority": authority,
        "authorizationType": OAUTH_2,
        "clientId": client_id,
        "redirectUri": redirect_uri(Some(authority)),
        "requestedScopes": scopes,
        "uxContextHandle": NO_WINDOW,
    });
    let mut set = |name: &str, value: Value| {
        if let Some(parameters) = parameters.as_object_mut() {
            parameters.insert(name.to_owned(), value);
        }
    };
    if let Some(claims) = claims {
        set("decodedClaims", json!(claims));
    }
    match (account, login_hint) {
        (Some(account), _) => {
            set("account", json!(account.0));
            set("username", json!(account.text("username").unwrap_or_default()));
        }
        (None, Some(hint)) => set("username", json!(hint)),
        (None, None) => set("prompt", json!("select_account")),
    }
    let mut whole = json!({ "authParameters": parameters });
    if let (Some(account), Some(whole)) = (account, whole.as_object_mut()) {
        whole.insert("account".to_owned(), json!(account.0));
    }
    whole.to_string()
}

#[derive(Deserialize)]
struct AccountsAnswer {
    #[serde(default)]
    accounts: Vec<Map<String, Value>>,
    error: Option<ErrorAnswer>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(rename = "brokerTokenResponse")]
    response: Option<TokenResponse>,
    error: Option<ErrorAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenResponse {
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<Zeroizing<String>>,
    access_token_type: Option<Value>,
    expires_on: Option<Value>,
    #[serde(default, deserialize_with = "secret")]
    id_token: Option<Zeroizing<String>>,
    error: Option<ErrorAnswer>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Zeroizing<String>>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Zeroizing::new))
}

#[derive(Deserialize)]
struct ErrorAnswer {
    #[serde(default)]
    status: u64,
    #[serde(default)]
    context: String,
}

impl From<ErrorAnswer> for BrokerError {
    /// The context may name the person: only the error number of Entra ID is taken out of it.
    fn from(mut error: ErrorAnswer) -> Self {
        let number: String = error
            .context
            .split_once("AADSTS")
            .map_or_else(String::new, |(_, number)| number.chars().take_while(char::is_ascii_digit).collect());
        error.context.zeroize();
        let said = if number.is_empty() { String::new() } else { format!(", AADSTS{number}") };
        match error.status {
            status::INTERACTION_REQUIRED | status::ACCOUNT_UNUSABLE => Self::InteractionRequired,
            status::USER_CANCELLED | status::APPLICATION_CANCELLED => Self::Declined,
            status @ (status::NO_NETWORK | status::NETWORK_UNAVAILABLE | status::SERVER_UNAVAILABLE) => {
                Self::Unavailable(format!("status {status}{said}"))
            }
            status => Self::Refused(format!("status {status}{said}")),
        }
    }
}

fn malformed(_: serde_json::Error) -> BrokerError {
    BrokerError::Refused("its answer cannot be read".to_owned())
}

pub(super) fn accounts(answer: &str) -> Result<Vec<Known>, BrokerError> {
    let answer: AccountsAnswer = serde_json::from_str(answer).map_err(malformed)?;
    match answer.error {
        Some(error) => Err(error.into()),
        None => Ok(answer.accounts.into_iter().map(Known).collect()),
    }
}

pub(super) fn tokens(answer: &str) -> Result<BrokerTokens, BrokerError> {
    let answer: TokenAnswer = serde_json::from_str(answer).map_err(malformed)?;
    let Some(response) = answer.response else {
        return Err(answer
            .error
            .map_or_else(|| BrokerError::Refused("its answer has no token".to_owned()), Into::into));
    };
    if let Some(error) = response.error.or(answer.error) {
        return Err(error.into());
    }
    // A token that is bound to a key would need a signature on every request.
    if !is_bearer(response.access_token_type.as_ref()) {
        return Err(BrokerError::Refused("its token is no bearer token".to_owned()));
    }
    let (Some(access_token), Some(id_token)) = (response.access_token, response.id_token) else {
        return Err(BrokerError::Refused("its answer has no access token or no ID token".to_owned()));
    };
    let Some(expires_at) = response.expires_on.as_ref().and_then(seconds) else {
        return Err(BrokerError::Refused("its answer does not say when the token ends".to_owned()));
    };
    Ok(BrokerTokens { access_token, expires_at, id_token })
}

fn is_bearer(kind: Option<&Value>) -> bool {
    match kind {
        None => true,
        Some(Value::String(kind)) => kind.eq_ignore_ascii_case("bearer"),
        Some(kind) => kind.as_u64() == Some(0),
    }
}

/// Unix time in seconds.
fn seconds(time: &Value) -> Option<u64> {
    let time = time.as_u64().or_else(|| time.as_str()?.parse().ok())?;
    Some(if time < EARLIEST_MILLISECONDS { time } else { time / 1_000 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(account: Option<&str>, login_hint: Option<&str>) -> BrokerRequest {
        BrokerRequest {
            client_id: "client".to_owned(),
            authority: "https://login.microsoftonline.com/tenant".to_owned(),
            scopes: vec!["https://graph.microsoft.com/User.Read".to_owned()],
            account: account.map(str::to_owned),
            login_hint: login_hint.map(str::to_owned),
            claims: Some("{}".to_owned()),
            correlation_id: "c".to_owned(),
        }
    }

    fn known() -> Vec<Known> {
        let listed = json!({ "accounts": [
            { "homeAccountId": "h.t", "localAccountId": "o", "realm": "t", "username": "alice", "environment": "e" },
            { "homeAccountId": "h.u" },
            { "username": "nameless" },
        ] });
        accounts(&listed.to_string()).unwrap()
    }

    #[test]
    fn an_account_is_named_by_its_object_id_in_the_tenant_and_goes_back_whole() {
        let known = known();
        let ids: Vec<_> = known.iter().map(|known| known.account().map(|account| account.home_account_id)).collect();
        assert_eq!(ids, [Some("o.t".to_owned()), Some("h.u".to_owned()), None]);
        let text = token_request(&request(Some("o.t"), None), known.first());
        let sent: Value = serde_json::from_str(&text).unwrap();
        for place in ["/account/environment", "/authParameters/account/environment"] {
            assert_eq!(sent.pointer(place), Some(&json!("e")), "{place}");
        }
        let parameters = &sent["authParameters"];
        assert_eq!(parameters["redirectUri"], "https://login.microsoftonline.com/common/oauth2/nativeclient");
        assert_eq!((&parameters["username"], &parameters["decodedClaims"]), (&json!("alice"), &json!("{}")));
        assert_eq!(parameters["requestedScopes"], json!(["https://graph.microsoft.com/User.Read"]));
    }

    #[test]
    fn a_person_chooses_where_no_account_is_named() {
        let sent = |hint| -> Value { serde_json::from_str(&token_request(&request(None, hint), None)).unwrap() };
        assert_eq!(sent(None)["authParameters"]["prompt"], "select_account");
        let hinted = sent(Some("alice"));
        assert_eq!(hinted["authParameters"]["username"], "alice");
        assert_eq!((hinted.get("account"), hinted["authParameters"].get("prompt")), (None, None));
    }

    fn answered(response: &Value) -> Result<BrokerTokens, BrokerError> {
        tokens(&json!({ "brokerTokenResponse": response }).to_string())
    }

    #[test]
    fn tokens_are_read_with_times_in_milliseconds_or_seconds() {
        for expires_on in [json!(1_794_996_000_123_u64), json!(1_794_996_000), json!("1794996000123")] {
            let response = json!({
                "accessToken": "a", "accessTokenType": 0, "idToken": "i", "expiresOn": expires_on, "grantedScopes": "s",
            });
            let tokens = answered(&response).unwrap();
            assert_eq!((tokens.access_token.as_str(), tokens.id_token.as_str()), ("a", "i"));
            assert_eq!(tokens.expires_at, 1_794_996_000, "{expires_on}");
        }
    }

    #[test]
    fn an_answer_without_all_of_a_bearer_token_is_refused() {
        let whole = json!({ "accessToken": "a", "accessTokenType": "Bearer", "idToken": "i", "expiresOn": 1 });
        assert!(answered(&whole).is_ok());
        let changed = |name: &str, value: Value| {
            let mut response = whole.clone();
            response[name] = value;
            response
        };
        for response in [
            changed("accessToken", Value::Null),
            changed("idToken", Value::Null),
            changed("expiresOn", json!("soon")),
            changed("accessTokenType", json!(1)),
            json!({}),
        ] {
            assert!(matches!(answered(&response), Err(BrokerError::Refused(_))), "{response}");
        }
        for answer in ["", "[]", "{}", "null", r#"{"brokerTokenResponse":5}"#] {
            assert!(matches!(tokens(answer), Err(BrokerError::Refused(_))), "{answer}");
        }
    }

    #[test]
    fn an_error_says_what_can_be_done_and_names_no_person() {
        let said = |status: u64| {
            let context = "alice@contoso.example: AADSTS50076: more is needed";
            answered(&json!({ "error": { "status": status, "subStatus": 1, "context": context } })).unwrap_err()
        };
        assert!(matches!(said(2), BrokerError::InteractionRequired));
        assert!(matches!(said(13), BrokerError::InteractionRequired));
        assert!(matches!(said(7), BrokerError::Declined));
        let BrokerError::Unavailable(text) = said(3) else { panic!() };
        assert_eq!(text, "status 3, AADSTS50076");
        let BrokerError::Refused(text) = said(6) else { panic!() };
        assert_eq!(text, "status 6, AADSTS50076");
        let top = tokens(r#"{"error":{"status":0,"context":"alice"}}"#).unwrap_err();
        let BrokerError::Refused(text) = top else { panic!() };
        assert_eq!(text, "status 0");
    }
}
