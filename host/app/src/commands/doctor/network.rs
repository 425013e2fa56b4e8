//! The way to a server: its name, the connection, its certificate.

use url::Url;

use super::report::Finding;
use crate::probe::{Probe, Unanswered};

/// A certificate that expires sooner than this is worth a warning. Those that renew themselves do it a month before.
const EXPIRES_SOON_DAYS: i64 = 14;

const SECONDS_OF_A_DAY: i64 = 24 * 60 * 60;

impl Probe {
    /// Looks at the way to a server: its name, the connection, its certificate. `setting` is what names it.
    pub(super) async fn way_to(&self, url: &Url, role: &str, setting: &str, now: u64) -> (Vec<Finding>, bool) {
        let host = url.host_str().unwrap_or_default();
        match self.certificate(url).await {
            Ok(None) => {
                let what = format!("{role}: {host} answers, without TLS");
                let finding = match host {
                    "localhost" | "127.0.0.1" | "[::1]" => Finding::skipped("tls", what),
                    _ => Finding::failure(
                        "tls",
                        what,
                        "serve it over https: clients refuse it, and others read the tokens",
                    ),
                };
                (vec![finding], true)
            }
            Ok(Some(certificate)) => (vec![of_certificate(&certificate, role, host, now)], true),
            Err(reason) => (vec![reason.finding(role, host, setting)], false),
        }
    }
}

/// Without roots of trust nothing can be asked.
pub(super) fn no_tls(reason: &str) -> Finding {
    Finding::of_sentence("tls", reason, "correct --ca-file: a file with certificates (PEM) is expected, or none")
}

fn of_certificate(certificate: &[u8], role: &str, host: &str, now: u64) -> Finding {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Finding::good("tls", format!("{role}: {host} answers over TLS"));
    };
    let left = parsed.validity().not_after.timestamp().saturating_sub(i64::try_from(now).unwrap_or(i64::MAX));
    let days = left.div_euclid(SECONDS_OF_A_DAY);
    let what = format!("{role}: {host} answers over TLS, its certificate is good for {days} more days");
    if days < EXPIRES_SOON_DAYS {
        return Finding::warning(
            "tls",
            what,
            format!("renew the certificate of {host}, and see why it is not renewed by itself"),
        );
    }
    Finding::good("tls", what)
}

impl Unanswered {
    /// What it means, and what to change. `setting` is what names the server.
    pub(super) fn finding(&self, role: &str, host: &str, setting: &str) -> Finding {
        let explained = self.explained(role, host, setting);
        Finding::failure(explained.id, explained.what, explained.change)
    }
}
