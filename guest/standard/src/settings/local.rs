//! The settings of `entra_mcp.wassette.wasm`: a public client, whose user signs in with a device code.

use serde_json::json;

use super::{Artefact, Configuration, STORE_KEY, STORE_KEY_FILE, SettingsError, Variables, without_nulls};

const OWN: [&str; 2] = [STORE_KEY, STORE_KEY_FILE];

/// The settings of the program that this artefact has.
const SUPPORTED: [&str; 12] = [
    "account",
    "audit-usernames",
    "authority",
    "client-id",
    "clock-tolerance",
    "cloud",
    "graph-resource",
    "graph-url",
    "profile-cache-seconds",
    "sign-in-timeout",
    "store",
    "tenant-id",
];

/// Where records are unless `ENTRA_MCP_STORE` says otherwise: the folder that the policy of `host/packaging/wassette` grants.
const STORE: &str = "entra-mcp";

/// How long a call waits for the person unless `ENTRA_MCP_SIGN_IN_TIMEOUT` says otherwise, in seconds. MCP clients give up a
/// call after a minute; the next call goes on with the same code.
const SIGN_IN_TIMEOUT: u32 = 40;

/// Reads the variables of the process.
pub fn read(variables: &[(String, String)]) -> Result<Configuration, SettingsError> {
    let variables = Variables(variables);
    variables.refuse_unsupported(&Artefact { name: "entra_mcp.wassette.wasm", own: &OWN, supported: &SUPPORTED })?;
    let application = variables.application()?;
    let timeout = match variables.text("sign-in-timeout") {
        Some(_) => variables.number("sign-in-timeout")?,
        None => Some(SIGN_IN_TIMEOUT),
    };
    let document = json!({
        "client-type": "public-client",
        "tenant": application.tenant,
        "client-id": application.client_id,
        "authority": application.clouds.authority,
        "graph": application.clouds.graph,
        "graph-resource": application.clouds.graph_resource,
        "token": { "clock-tolerance-seconds": variables.number("clock-tolerance")? },
        "sign-in": {
            "method": "device-code",
            "timeout-seconds": timeout,
            "account": variables.text("account"),
            "broker": "off",
        },
        "profile-cache-seconds": variables.number("profile-cache-seconds")?,
        "audit-usernames": variables.is_on("audit-usernames")?,
    });
    Ok(Configuration {
        document: without_nulls(document).to_string(),
        folder: variables.text("store").unwrap_or(STORE).to_owned(),
        key: variables.store_key()?,
        credential: None,
        rates: variables.rates()?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::MULTI_TENANT;
    use super::*;

    fn of(changes: &[(&str, &str)]) -> Result<Configuration, SettingsError> {
        let mut variables = vec![
            ("ENTRA_MCP_TENANT_ID", "11111111-2222-3333-4444-555555555555"),
            ("ENTRA_MCP_CLIENT_ID", "22222222-2222-3333-4444-555555555555"),
            (STORE_KEY, "x"),
        ];
        for (name, value) in changes {
            variables.retain(|(other, _)| other != name);
            variables.push((name, value));
        }
        read(&variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn the_document_is_that_of_a_public_client_whose_user_gets_a_code() {
        let configuration = of(&[("ENTRA_MCP_ACCOUNT", "alice@contoso.example")]).unwrap();
        assert_eq!((configuration.folder.as_str(), configuration.credential.is_none()), (STORE, true));
        let settings = base::settings_document::read(&configuration.document).unwrap();
        assert!(settings.is_public_client());
        let base::settings::Mode::Local(local) = settings.mode else { panic!("a local server") };
        assert_eq!(local.method, base::settings::SignInMethod::DeviceCode);
        assert_eq!(local.broker, base::settings::BrokerUse::Off);
        assert_eq!(local.timeout.as_secs(), 40);
        assert_eq!(local.account.as_deref(), Some("alice@contoso.example"));
    }

    #[test]
    fn what_is_missing_or_has_no_effect_is_named() {
        for name in ["ENTRA_MCP_TENANT_ID", "ENTRA_MCP_CLIENT_ID", STORE_KEY] {
            assert_eq!(of(&[(name, "")]).unwrap_err().to_string(), format!("{name} is not set"));
        }
        for name in ["ENTRA_MCP_PUBLIC_URL", "ENTRA_MCP_SIGN_IN", "ENTRA_MCP_BROKER", "ENTRA_MCP_CLIENT_ADDRESS_HEADER"]
        {
            let error = of(&[(name, "x")]).unwrap_err().to_string();
            assert_eq!(error, format!("{name} has no effect in entra_mcp.wassette.wasm: unset it"));
        }
        assert_eq!(
            of(&[("ENTRA_MCP_TENANT", "x")]).unwrap_err().to_string(),
            "ENTRA_MCP_TENANT is not a setting: unset it"
        );
        assert!(of(&[("ENTRA_MCP_SIGN_IN_TIMEOUT", "0")]).is_err());
    }

    #[test]
    fn people_of_any_tenant_may_be_meant() {
        for tenant in MULTI_TENANT {
            of(&[("ENTRA_MCP_TENANT_ID", tenant)]).unwrap();
        }
    }
}
