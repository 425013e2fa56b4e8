//! The certificate of a deployed server: its chain, its name, and how long it is good.

use std::sync::Arc;
use std::time::Duration;

use entra_mcp_plugin::clock::{Clock as _, SystemClock};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::{Diagnosis, diagnosis};
use crate::host::commands::Home;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority, one below it, and a server with a certificate of the latter.
struct Site {
    /// Of the authority, as PEM.
    root: String,
    url: String,
}

impl Site {
    /// `until`: when the server's certificate ends. `whole`: it sends the certificate of the authority in between as well.
    async fn start(name: &str, until: Duration, whole: bool) -> Self {
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            (params, KeyPair::generate().unwrap())
        };
        let (root, root_key) = authority("root");
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let root = Issuer::new(root, root_key);
        let (between, between_key) = authority("between");
        let between_der = between.signed_by(&between_key, &root).unwrap().der().clone();
        let between = Issuer::new(between, between_key);
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(1970, 1, 1) + until);
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &between).unwrap().der().clone();
        let chain = [Some(own), whole.then_some(between_der)].into_iter().flatten().collect();
        let url = serving(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap()).await;
        Self { root: root_pem, url }
    }
}

/// Shakes hands, and says nothing more.
async fn serving(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> String {
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/mcp", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    url
}

/// The time in so many days.
fn in_days(days: u32) -> Duration {
    Duration::from_secs(SystemClock::new().now_seconds()) + DAY * days + DAY / 2
}

async fn visit(home: &Home, site: &Site, trusted: bool) -> Diagnosis {
    let mut command = home.program(&["doctor", "--json", "--url", &site.url]);
    command.env("HOME", home.path().join("elsewhere"));
    if trusted {
        let file = home.path().join("root.pem");
        std::fs::write(&file, &site.root).unwrap();
        command.arg("--ca-file").arg(file);
    }
    diagnosis(command).await
}

#[tokio::test]
async fn a_certificate_that_clients_refuse_is_explained() {
    let home = Home::new().await;
    let long = in_days(90);
    for (site, trusted, what, change) in [
        (Site::start("localhost", long, true).await, false, "that this machine does not know", "--ca-file"),
        (
            Site::start("localhost", long, false).await,
            true,
            "that this machine does not know",
            "intermediate certificates",
        ),
        (
            Site::start("other.example", long, true).await,
            true,
            "is not for the name localhost",
            "get a certificate with the name",
        ),
        (Site::start("localhost", DAY * 365 * 50, true).await, true, "has expired", "renew it where TLS ends"),
    ] {
        let diagnosis = visit(&home, &site, trusted).await;
        let found = diagnosis.failure("tls");
        assert!(found.0.contains(what) && found.1.contains(change), "{:#}", diagnosis.report);
        assert_eq!((diagnosis.code, diagnosis.ids("failure")), (Some(2), vec!["tls"]), "{:#}", diagnosis.report);
    }
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_a_warning_with_the_days_that_are_left() {
    let home = Home::new().await;
    for (days, severity) in [(5, "warning"), (13, "warning"), (14, "good"), (60, "good")] {
        let diagnosis = visit(&home, &Site::start("localhost", in_days(days), true).await, true).await;
        let found: Vec<_> = diagnosis.of(severity).into_iter().filter(|found| found["id"] == "tls").collect();
        let [found] = found.as_slice() else { panic!("{days}: {:#}", diagnosis.report) };
        assert!(found["what"].as_str().unwrap().contains(&format!("is good for {days} more days")), "{found}");
        let renewed =
            found["change"].as_str().is_some_and(|change| change.contains("renew the certificate of localhost"));
        assert_eq!(renewed, severity == "warning", "{found}");
    }
}
