//! The HTML of the sign-in pages.
//!
//! Plain forms without scripts (but for the self-submitting `form_post` answer, which also has a button), one task a page,
//! labelled fields, visible focus, errors announced through `role="alert"`. The primary button comes first in the document,
//! so that Enter presses it, and is drawn last. Every page says that it is an emulator, so that no one takes it for
//! Microsoft's.

use http::StatusCode;

use super::answers::Ids;
use super::config::User;
use super::errors::Refusal;
use super::http::Reply;
use super::resources::Permission;

const STYLE: &str = include_str!("pages.css");

/// What every form of a sign-in carries.
#[derive(Clone, Debug)]
pub(crate) struct Form<'a> {
    pub(crate) path: String,
    pub(crate) context: &'a str,
    pub(crate) canary: &'a str,
    pub(crate) problem: Option<&'a Refusal>,
}

impl Form<'_> {
    fn open(&self) -> String {
        format!(
            "<form method=\"post\" action=\"{}\" novalidate>\
             <input type=\"hidden\" name=\"ctx\" value=\"{}\"><input type=\"hidden\" name=\"canary\" value=\"{}\">",
            escape(&self.path),
            escape(self.context),
            escape(self.canary)
        )
    }

    /// The problem in words for the person, with the code for the developer.
    fn alert(&self) -> String {
        self.problem.map_or_else(String::new, |refusal| {
            format!(
                "<p class=\"alert\" id=\"error\" role=\"alert\">{} <span class=\"code\">AADSTS{}</span></p>",
                escape(&in_plain_words(refusal)),
                refusal.code.number
            )
        })
    }

    fn describes_error(&self) -> &'static str {
        if self.problem.is_some() { " aria-invalid=\"true\" aria-describedby=\"error\"" } else { "" }
    }
}

pub(crate) fn account_picker(form: &Form<'_>, application: &str, accounts: &[&User]) -> Reply {
    let mut list = String::new();
    for user in accounts {
        list.push_str(&format!(
            "<li><button class=\"account\" name=\"account\" value=\"{}\">{}<span class=\"who\"><b>{}</b><span>{}</span></span>\
             <span class=\"state\">Signed in</span></button></li>",
            escape(&user.username),
            avatar(user.display_name()),
            escape(user.display_name()),
            escape(&user.username)
        ));
    }
    page(
        StatusCode::OK,
        "Pick an account",
        &format!(
            "<h1>Pick an account</h1><p class=\"lead\">to continue to <b>{}</b></p>{}{}<ul class=\"accounts\">{list}<li>\
             <button class=\"account\" name=\"action\" value=\"other\"><span class=\"avatar plus\" aria-hidden=\"true\">+</span>\
             <span class=\"who\"><b>Use another account</b></span></button></li></ul></form>",
            escape(application),
            form.alert(),
            form.open()
        ),
    )
}

pub(crate) fn username(form: &Form<'_>, application: &str, hint: &str) -> Reply {
    page(
        StatusCode::OK,
        "Sign in",
        &format!(
            "<h1>Sign in</h1><p class=\"lead\">to continue to <b>{}</b></p>{}{}\
             <label for=\"loginfmt\">Email or user name</label>\
             <input id=\"loginfmt\" name=\"loginfmt\" type=\"email\" autocomplete=\"username\" autocapitalize=\"none\" \
             spellcheck=\"false\" required autofocus value=\"{}\"{}>\
             <p class=\"hint\">For example <code>alice@contoso.example</code></p>{}</form>",
            escape(application),
            form.alert(),
            form.open(),
            escape(hint),
            form.describes_error(),
            buttons(&[("username", "Next"), ("cancel", "Cancel")])
        ),
    )
}

pub(crate) fn password(form: &Form<'_>, username: &str) -> Reply {
    page(
        StatusCode::OK,
        "Enter password",
        &format!(
            "{}<h1>Enter password</h1>{}{}\
             <input type=\"text\" name=\"username\" value=\"{}\" autocomplete=\"username\" hidden>\
             <label for=\"passwd\">Password</label>\
             <input id=\"passwd\" name=\"passwd\" type=\"password\" autocomplete=\"current-password\" required autofocus{}>\
             <p class=\"hint\">Every built-in account has the password <code>emulator</code></p>{}</form>",
            identity(username),
            form.alert(),
            form.open(),
            escape(username),
            form.describes_error(),
            buttons(&[("password", "Sign in"), ("other", "Use another account")])
        ),
    )
}

pub(crate) fn second_factor(form: &Form<'_>, username: &str) -> Reply {
    page(
        StatusCode::OK,
        "Verify your identity",
        &format!(
            "{}<h1>Enter code</h1><p class=\"lead\">Enter the code shown in your authenticator app.</p>{}{}\
             <label for=\"otc\">Code</label>\
             <input id=\"otc\" name=\"otc\" inputmode=\"numeric\" autocomplete=\"one-time-code\" maxlength=\"6\" required autofocus{}>\
             <p class=\"hint\">The emulator accepts <code>123456</code></p>{}</form>",
            identity(username),
            form.alert(),
            form.open(),
            form.describes_error(),
            buttons(&[("mfa", "Verify"), ("cancel", "Cancel")])
        ),
    )
}

pub(crate) fn enrolment(form: &Form<'_>, username: &str) -> Reply {
    page(
        StatusCode::OK,
        "More information required",
        &format!(
            "{}<h1>More information required</h1><p class=\"lead\">Your organization needs more information to keep your \
             account secure. The emulator registers an authenticator app for you.</p>{}{}{}</form>",
            identity(username),
            form.alert(),
            form.open(),
            buttons(&[("enrol", "Next"), ("cancel", "Cancel")])
        ),
    )
}

pub(crate) fn consent(
    form: &Form<'_>,
    application: &str,
    user: &User,
    tenant: &str,
    permissions: &[Permission],
) -> Reply {
    let mut list = String::new();
    for permission in permissions {
        list.push_str(&format!(
            "<li><b>{}</b><span><code>{}</code></span></li>",
            escape(&permission.title),
            escape(&permission.name)
        ));
    }
    if list.is_empty() {
        list.push_str("<li><b>View your basic profile</b><span><code>openid profile</code></span></li>");
    }
    let organization = if user.administrator {
        format!(
            "<p class=\"check\"><input type=\"checkbox\" id=\"organization\" name=\"organization\" value=\"yes\">\
             <label for=\"organization\">Consent on behalf of {}</label></p>",
            escape(tenant)
        )
    } else {
        String::new()
    };
    page(
        StatusCode::OK,
        "Permissions requested",
        &format!(
            "{}<h1>Permissions requested</h1><p class=\"app\">{}<span class=\"who\"><b>{}</b><span>unverified</span></span></p>\
             <p class=\"lead\">This app would like to:</p>{}{}<ul class=\"permissions\">{list}</ul>{organization}\
             <p class=\"hint\">Accepting means that you allow this app to use your data as its terms say. \
             You can withdraw these permissions later.</p>{}</form>",
            identity(&user.username),
            avatar(application),
            escape(application),
            form.alert(),
            form.open(),
            buttons(&[("accept", "Accept"), ("decline", "Cancel")])
        ),
    )
}

pub(crate) fn confirm_device(form: &Form<'_>, application: &str, username: &str) -> Reply {
    page(
        StatusCode::OK,
        "Confirm the device",
        &format!(
            "{}<h1>Are you trying to sign in to {}?</h1><p class=\"lead\">Only continue if you started this sign-in yourself, \
             on another device or in a terminal. Never enter a code that another person gives you.</p>{}{}{}</form>",
            identity(username),
            escape(application),
            form.alert(),
            form.open(),
            buttons(&[("confirm", "Continue"), ("cancel", "Cancel")])
        ),
    )
}

/// The page on which a device code is typed; it starts a transaction of its own.
pub(crate) fn enter_code(path: &str, typed: &str, problem: Option<&str>) -> Reply {
    let (alert, invalid) = problem.map_or_else(
        || (String::new(), ""),
        |problem| {
            (
                format!("<p class=\"alert\" id=\"error\" role=\"alert\">{}</p>", escape(problem)),
                " aria-invalid=\"true\" aria-describedby=\"error\"",
            )
        },
    );
    page(
        StatusCode::OK,
        "Enter code",
        &format!(
            "<h1>Enter code</h1><p class=\"lead\">Enter the code displayed on your app or device.</p>{alert}\
             <form method=\"post\" action=\"{}\" novalidate><label for=\"user_code\">Code</label>\
             <input id=\"user_code\" name=\"user_code\" class=\"wide\" autocomplete=\"off\" autocapitalize=\"characters\" \
             spellcheck=\"false\" maxlength=\"12\" required autofocus value=\"{}\"{invalid}>{}</form>",
            escape(path),
            escape(typed),
            buttons(&[("code", "Next")])
        ),
    )
}

pub(crate) fn device_done(application: &str) -> String {
    document(
        "Signed in",
        &format!(
            "<h1>You're signed in</h1><p class=\"lead\">You have signed in to the <b>{}</b> application on your device. You may \
             now close this window.</p>",
            escape(application)
        ),
    )
}

pub(crate) fn signed_out() -> String {
    document(
        "Signed out",
        "<h1>You signed out of your account</h1><p class=\"lead\">It's a good idea to close all browser windows.</p>",
    )
}

/// A refusal the person has to know about; with a way back to the application if there is a transaction.
pub(crate) fn refusal(refusal: &Refusal, ids: &Ids, back: Option<(&Form<'_>, &str)>) -> Reply {
    let (title, lead) = headline(refusal);
    let way_back = back.map_or_else(String::new, |(form, application)| {
        format!(
            "{}<p class=\"hint\">{} will be told what went wrong.</p>{}</form>",
            form.open(),
            escape(application),
            buttons(&[("return", "Back to the app"), ("other", "Use another account")])
        )
    });
    let mut reply = page(
        StatusCode::BAD_REQUEST,
        title,
        &format!(
            "<h1>{title}</h1><p class=\"lead\">{}</p><p class=\"alert\" id=\"error\" role=\"alert\">AADSTS{}: {}</p>{way_back}\
             <details open><summary>Troubleshooting details</summary><dl><dt>Request Id</dt><dd>{}</dd><dt>Correlation Id</dt>\
             <dd>{}</dd><dt>Timestamp</dt><dd>{}</dd></dl></details>",
            escape(lead),
            refusal.code.number,
            escape(&refusal.message),
            escape(&ids.trace),
            escape(&ids.correlation),
            escape(&ids.timestamp)
        ),
    );
    // A page with a way on is no HTTP error: a browser (and a plain HTTP client) has to go on with its form.
    if back.is_some() {
        reply.status = StatusCode::OK;
    }
    ids.label(reply)
}

/// The page that carries an answer to the application in a form.
pub(crate) fn form_post(uri: &str, answer: &[(String, String)]) -> String {
    let mut fields = String::new();
    for (name, value) in answer {
        fields.push_str(&format!("<input type=\"hidden\" name=\"{}\" value=\"{}\">", escape(name), escape(value)));
    }
    document(
        "Working",
        &format!(
            "<h1>One moment</h1><p class=\"lead\">You are being taken back to the application.</p>\
             <form method=\"post\" action=\"{}\">{fields}{}</form><script>document.forms[0].submit()</script>",
            escape(uri),
            buttons(&[("", "Continue")])
        ),
    )
}

pub(crate) fn error_lookup(code: Option<u32>) -> String {
    let body = match code {
        Some(code) => format!(
            "<h1>AADSTS{code}</h1><p class=\"lead\">The emulator refused a request with this code. Its answer says why; \
             Microsoft's own list has the general description.</p>"
        ),
        None => "<h1>Error look-up</h1><p class=\"lead\">Add <code>?code=</code> and the number of an AADSTS code.</p>"
            .to_owned(),
    };
    document("Error look-up", &body)
}

fn headline(refusal: &Refusal) -> (&'static str, &'static str) {
    match refusal.code.number {
        53003 => (
            "You cannot access this right now",
            "Your sign-in was successful but does not meet the criteria to access this resource.",
        ),
        90094 => ("Need admin approval", "This app needs a permission that only an administrator can grant."),
        50105 => ("You don't have access to this app", "Your administrator has to assign you to it first."),
        65004 => ("Sign-in declined", "Nothing was shared with the application. You may close this window."),
        _ => ("Sorry, but we're having trouble signing you in", "The request cannot be completed as it was sent."),
    }
}

/// The words of the Entra ID pages for mistakes that a person can mend; anything else is shown as it is.
fn in_plain_words(refusal: &Refusal) -> String {
    match refusal.code.number {
        50126 => {
            "Your account or password is incorrect. If you don't remember your password, ask this emulator's operator."
                .to_owned()
        }
        50034 => "We couldn't find an account with that user name.".to_owned(),
        50055 => "Your password has expired and has to be changed.".to_owned(),
        50057 => "Your account has been locked. Contact your support person to unlock it.".to_owned(),
        500121 => "That code didn't work. Check the code and try again.".to_owned(),
        _ => refusal.message.clone(),
    }
}

fn buttons(actions: &[(&str, &str)]) -> String {
    let mut html = String::from("<p class=\"buttons\">");
    for (index, (action, label)) in actions.iter().enumerate() {
        let class = if index == 0 { " class=\"primary\"" } else { "" };
        let name = if action.is_empty() { String::new() } else { format!(" name=\"action\" value=\"{action}\"") };
        html.push_str(&format!("<button type=\"submit\"{name}{class}>{}</button>", escape(label)));
    }
    html.push_str("</p>");
    html
}

fn identity(username: &str) -> String {
    format!("<p class=\"identity\">{}</p>", escape(username))
}

fn avatar(name: &str) -> String {
    let initials: String = name
        .split_whitespace()
        .filter_map(|word| word.chars().next())
        .filter(|letter| letter.is_alphanumeric())
        .take(2)
        .collect();
    format!("<span class=\"avatar\" aria-hidden=\"true\">{}</span>", escape(&initials))
}

fn page(status: StatusCode, title: &str, body: &str) -> Reply {
    Reply::html(status, document(title, body))
        .with("cache-control", "no-store, no-cache")
        .with("x-frame-options", "DENY")
        .with("referrer-policy", "strict-origin-when-cross-origin")
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"robots\" content=\"none\"><title>{}</title>\
         <style>{STYLE}</style></head><body><main><header><span class=\"mark\" aria-hidden=\"true\"></span>Entra ID emulator\
         </header>{body}</main><footer>Emulator for development. Not Microsoft; accounts and secrets here are public.</footer>\
         </body></html>",
        escape(title)
    )
}

/// Makes text safe inside HTML text and quoted attributes. The emulator shares no code with the product: a fault of a shared
/// function would be on both sides of every test.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
