//! Why an HTTP exchange produced no response, in a sentence for each reason.
//!
//! The sentences go to people, after "Microsoft Entra ID cannot be reached" and the like. They say what to look at, and
//! hold nothing that the other side wrote.

/// Why an HTTP exchange produced no response. A response of any status is not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The host refused the request.
    #[error("{0}")]
    Denied(DeniedTarget),
    /// No connection could be made (name, route, TLS). Nothing was sent.
    #[error("{0}")]
    Connect(NotConnected),
    /// No complete answer in time.
    #[error("it did not answer in time; check the network connection and try again")]
    TimedOut,
    /// The response is over the limit.
    #[error("its response is too large")]
    TooLarge,
    /// The exchange broke after it had started: the request may have been processed.
    #[error("{0}")]
    Broken(Interrupted),
}

/// Why the host refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeniedTarget {
    /// The target itself.
    #[error("it is not on the list of hosts that this program may reach")]
    NotListed,
    /// What its name resolves to.
    #[error("its name leads to an address of a private or special network; check the DNS settings of this machine")]
    Address,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotConnected {
    /// The name has no address.
    #[error("its name was not found; check the network connection and the DNS settings of this machine")]
    NameNotFound,
    /// The name servers did not answer.
    #[error("the DNS servers did not answer in time; check the network connection of this machine")]
    NameTimedOut,
    /// There is no route.
    #[error("there is no route to its address; check the network connection of this machine")]
    Unroutable,
    /// The other machine, or a firewall, refuses.
    #[error("the connection was refused; check the firewall, and whether its URL is right")]
    Refused,
    /// No more is known.
    #[error("no connection can be made; check the network connection of this machine")]
    Unavailable,
    /// The host has too many connections.
    #[error("this machine has too many connections open; try again later")]
    TooMany,
    /// The certificate is not trusted, for another name or out of date.
    #[error(
        "its TLS certificate is not valid or not trusted here; check the date and time of this machine, and if a proxy \
         inspects TLS, name its certificate in the setting ca-file"
    )]
    Certificate,
    /// TLS could not be agreed on.
    #[error("no secure connection (TLS) can be made; check whether a proxy or a firewall is in between")]
    Tls,
    /// The host is not set up to send requests.
    #[error("this machine is not set up for secure connections; the log says why")]
    NotSetUp,
}

/// How an exchange broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// The connection ended.
    #[error("the connection ended before the response was complete; try again")]
    Ended,
    /// The request is more than the way to the other side carries.
    #[error("the request is too large for it")]
    RequestTooLarge,
    /// The request was not accepted as HTTP.
    #[error("the request was not accepted as HTTP")]
    RequestInvalid,
    /// The response is not what HTTP permits, or in an encoding that is not understood.
    #[error("its response is not valid HTTP; check whether a proxy or a firewall is in between")]
    ResponseInvalid,
    /// The request comes back to where it was sent from.
    #[error("the request runs in a loop; check the proxy in between")]
    Loop,
    /// No more is known.
    #[error("the exchange failed; the log says why")]
    Unknown,
}

/// Every code of `wasi:http` as one of the reasons that people can do something about. What a host says in words is for
/// its log. A macro, because each version of the interface has a type `error-code` of its own, with the same codes.
#[macro_export]
macro_rules! http_error_of {
    ($codes:ident, $code:expr) => {{
        use $crate::HttpError;
        use $crate::http_error::{DeniedTarget, Interrupted, NotConnected};
        match $code {
            $codes::HttpRequestDenied => HttpError::Denied(DeniedTarget::NotListed),
            $codes::DestinationIpProhibited => HttpError::Denied(DeniedTarget::Address),
            $codes::ConnectionTimeout
            | $codes::ConnectionReadTimeout
            | $codes::ConnectionWriteTimeout
            | $codes::HttpResponseTimeout => HttpError::TimedOut,
            $codes::HttpResponseBodySize(_)
            | $codes::HttpResponseHeaderSectionSize(_)
            | $codes::HttpResponseHeaderSize(_)
            | $codes::HttpResponseTrailerSectionSize(_)
            | $codes::HttpResponseTrailerSize(_) => HttpError::TooLarge,
            $codes::DnsTimeout => HttpError::Connect(NotConnected::NameTimedOut),
            $codes::DnsError(_) | $codes::DestinationNotFound => HttpError::Connect(NotConnected::NameNotFound),
            $codes::DestinationIpUnroutable => HttpError::Connect(NotConnected::Unroutable),
            $codes::DestinationUnavailable => HttpError::Connect(NotConnected::Unavailable),
            $codes::ConnectionRefused => HttpError::Connect(NotConnected::Refused),
            $codes::ConnectionLimitReached => HttpError::Connect(NotConnected::TooMany),
            $codes::TlsCertificateError => HttpError::Connect(NotConnected::Certificate),
            $codes::TlsProtocolError | $codes::TlsAlertReceived(_) => HttpError::Connect(NotConnected::Tls),
            $codes::ConfigurationError => HttpError::Connect(NotConnected::NotSetUp),
            $codes::ConnectionTerminated | $codes::HttpResponseIncomplete => HttpError::Broken(Interrupted::Ended),
            $codes::HttpRequestBodySize(_)
            | $codes::HttpRequestUriTooLong
            | $codes::HttpRequestHeaderSectionSize(_)
            | $codes::HttpRequestHeaderSize(_)
            | $codes::HttpRequestTrailerSectionSize(_)
            | $codes::HttpRequestTrailerSize(_) => HttpError::Broken(Interrupted::RequestTooLarge),
            $codes::HttpRequestLengthRequired
            | $codes::HttpRequestMethodInvalid
            | $codes::HttpRequestUriInvalid
            | $codes::HttpUpgradeFailed => HttpError::Broken(Interrupted::RequestInvalid),
            $codes::HttpResponseTransferCoding(_)
            | $codes::HttpResponseContentCoding(_)
            | $codes::HttpProtocolError => HttpError::Broken(Interrupted::ResponseInvalid),
            $codes::LoopDetected => HttpError::Broken(Interrupted::Loop),
            $codes::InternalError(_) => HttpError::Broken(Interrupted::Unknown),
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_a_sentence_that_goes_on_from_the_name_of_the_service() {
        let connect = [
            NotConnected::NameNotFound,
            NotConnected::NameTimedOut,
            NotConnected::Unroutable,
            NotConnected::Refused,
            NotConnected::Unavailable,
            NotConnected::TooMany,
            NotConnected::Certificate,
            NotConnected::Tls,
            NotConnected::NotSetUp,
        ];
        let broken = [
            Interrupted::Ended,
            Interrupted::RequestTooLarge,
            Interrupted::RequestInvalid,
            Interrupted::ResponseInvalid,
            Interrupted::Loop,
            Interrupted::Unknown,
        ];
        let denied = [DeniedTarget::NotListed, DeniedTarget::Address].map(HttpError::Denied);
        let others = [HttpError::TimedOut, HttpError::TooLarge];
        let all = connect.map(HttpError::Connect).into_iter().chain(broken.map(HttpError::Broken)).chain(denied);
        let mut sentences: Vec<String> = all.chain(others).map(|error| error.to_string()).collect();
        for sentence in &sentences {
            assert!(sentence.starts_with(|c: char| c.is_ascii_lowercase()), "{sentence}");
            assert!(!sentence.ends_with('.') && !sentence.contains(['{', '_']), "{sentence}");
            // Not every host of the component has a command line.
            assert!(!sentence.contains("--"), "{sentence}");
        }
        sentences.sort();
        sentences.dedup();
        assert_eq!(sentences.len(), 19);
    }
}
