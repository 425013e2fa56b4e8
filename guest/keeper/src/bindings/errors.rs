//! Error codes of the host, for the tool.

use wasip2::http::types as host;

use super::generated::exports::seen::http::types as wit;

fn size(from: host::FieldSizePayload) -> wit::FieldSizePayload {
    wit::FieldSizePayload { field_name: from.field_name, field_size: from.field_size }
}

/// The same code.
pub(super) fn seen(from: host::ErrorCode) -> wit::ErrorCode {
    use host::ErrorCode as From;
    use wit::ErrorCode as To;
    match from {
        From::DnsTimeout => To::DnsTimeout,
        From::DnsError(error) => To::DnsError(wit::DnsErrorPayload { rcode: error.rcode, info_code: error.info_code }),
        From::DestinationNotFound => To::DestinationNotFound,
        From::DestinationUnavailable => To::DestinationUnavailable,
        From::DestinationIpProhibited => To::DestinationIpProhibited,
        From::DestinationIpUnroutable => To::DestinationIpUnroutable,
        From::ConnectionRefused => To::ConnectionRefused,
        From::ConnectionTerminated => To::ConnectionTerminated,
        From::ConnectionTimeout => To::ConnectionTimeout,
        From::ConnectionReadTimeout => To::ConnectionReadTimeout,
        From::ConnectionWriteTimeout => To::ConnectionWriteTimeout,
        From::ConnectionLimitReached => To::ConnectionLimitReached,
        From::TlsProtocolError => To::TlsProtocolError,
        From::TlsCertificateError => To::TlsCertificateError,
        From::TlsAlertReceived(alert) => To::TlsAlertReceived(wit::TlsAlertReceivedPayload {
            alert_id: alert.alert_id,
            alert_message: alert.alert_message,
        }),
        From::HttpRequestDenied => To::HttpRequestDenied,
        From::HttpRequestLengthRequired => To::HttpRequestLengthRequired,
        From::HttpRequestBodySize(about) => To::HttpRequestBodySize(about),
        From::HttpRequestMethodInvalid => To::HttpRequestMethodInvalid,
        From::HttpRequestUriInvalid => To::HttpRequestUriInvalid,
        From::HttpRequestUriTooLong => To::HttpRequestUriTooLong,
        From::HttpRequestHeaderSectionSize(about) => To::HttpRequestHeaderSectionSize(about),
        From::HttpRequestHeaderSize(field) => To::HttpRequestHeaderSize(field.map(size)),
        From::HttpRequestTrailerSectionSize(about) => To::HttpRequestTrailerSectionSize(about),
        From::HttpRequestTrailerSize(field) => To::HttpRequestTrailerSize(size(field)),
        From::HttpResponseIncomplete => To::HttpResponseIncomplete,
        From::HttpResponseHeaderSectionSize(about) => To::HttpResponseHeaderSectionSize(about),
        From::HttpResponseHeaderSize(field) => To::HttpResponseHeaderSize(size(field)),
        From::HttpResponseBodySize(about) => To::HttpResponseBodySize(about),
        From::HttpResponseTrailerSectionSize(about) => To::HttpResponseTrailerSectionSize(about),
        From::HttpResponseTrailerSize(field) => To::HttpResponseTrailerSize(size(field)),
        From::HttpResponseTransferCoding(about) => To::HttpResponseTransferCoding(about),
        From::HttpResponseContentCoding(about) => To::HttpResponseContentCoding(about),
        From::HttpResponseTimeout => To::HttpResponseTimeout,
        From::HttpUpgradeFailed => To::HttpUpgradeFailed,
        From::HttpProtocolError => To::HttpProtocolError,
        From::LoopDetected => To::LoopDetected,
        From::ConfigurationError => To::ConfigurationError,
        From::InternalError(about) => To::InternalError(about),
    }
}
