//! The exports.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use self::generated::entra_mcp::plugin::mcp_server::{self, Context};
use self::generated::entra_mcp::plugin::secret_store::{self, Lookup};
use self::generated::entra_mcp::plugin::sign_in;
use self::generated::entra_mcp::standard::local;
use self::generated::{Guest, Profile};
use crate::conversation::{self, ProfileOutcome};

#[allow(unsafe_code, unreachable_pub, reason = "the export macro defines the component's entry points")]
mod exports;

#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, clippy::restriction, reason = "generated code")]
mod generated {
    wit_bindgen::generate!({
        path: ["../../wit", "../standard/wit", "wit"],
        world: "entra-mcp:wassette/tools",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "crate::bindings::generated",
    });
}

/// Where the state of a sign-in that waits for the person is. The component has no record of such a name.
const PENDING: &str = "wassette/pending";

/// How long it is kept, in seconds: a code of Entra ID counts for 15 minutes.
const PENDING_SECONDS: u32 = 15 * 60;

/// Names the calls in records, as the name of a transport.
const TRANSPORT: &str = "wassette";

struct Tools;

impl Guest for Tools {
    fn get_user_details() -> Result<Profile, String> {
        local::begin();
        let pending = pending()?;
        let answered = match ask(pending.as_deref()) {
            ProfileOutcome::Foreign if pending.is_some() => ask(None),
            answered => answered,
        };
        match answered {
            ProfileOutcome::Profile(profile) => {
                if pending.is_some() {
                    forget()?;
                }
                Ok(of(*profile))
            }
            ProfileOutcome::SignIn { state, instruction } => {
                let kept = secret_store::put(PENDING, state.as_bytes(), Some(PENDING_SECONDS));
                kept.map_err(|_| "The folder for the state of this tool cannot be written.".to_owned())?;
                Err(instruction)
            }
            // What it was asked with stays: the person may still be at it.
            ProfileOutcome::Failed(text) => Err(text),
            ProfileOutcome::Foreign => Err("The component does not understand the call.".to_owned()),
        }
    }

    fn sign_out() -> Result<String, String> {
        local::begin();
        let accounts = sign_in::accounts().map_err(|error| error.message)?;
        forget()?;
        let mut names = Vec::new();
        for account in accounts {
            sign_in::sign_out(&account.home_account_id).map_err(|error| error.message)?;
            names.push(account.username);
        }
        match names.is_empty() {
            true => Ok("No account was signed in.".to_owned()),
            false => Ok(format!("Signed out: {}.", names.join(", "))),
        }
    }
}

fn pending() -> Result<Option<String>, String> {
    match secret_store::get(PENDING) {
        Lookup::Found(bytes) => Ok(String::from_utf8(bytes).ok()),
        Lookup::None => Ok(None),
        // With another key than before: a new sign-in replaces it.
        Lookup::Failed(secret_store::StoreError::Unreadable) => Ok(None),
        Lookup::Failed(_) => Err("The folder for the state of this tool cannot be read.".to_owned()),
    }
}

fn forget() -> Result<(), String> {
    secret_store::delete(PENDING).map_err(|_| "The folder for the state of this tool cannot be written.".to_owned())
}

fn ask(state: Option<&str>) -> ProfileOutcome {
    let context = Context {
        // Another one for each call: no instance has the seed of another.
        correlation_id: format!("{:016x}", RandomState::new().build_hasher().finish()),
        transport: TRANSPORT.to_owned(),
        authorization: None,
        client_address: None,
    };
    conversation::answer(mcp_server::handle(&conversation::call(state), &context).as_deref())
}

fn of(profile: conversation::Profile) -> Profile {
    Profile {
        id: profile.id,
        display_name: profile.display_name,
        given_name: profile.given_name,
        surname: profile.surname,
        user_principal_name: profile.user_principal_name,
        mail: profile.mail,
        job_title: profile.job_title,
        office_location: profile.office_location,
        mobile_phone: profile.mobile_phone,
        business_phones: profile.business_phones,
        preferred_language: profile.preferred_language,
    }
}
