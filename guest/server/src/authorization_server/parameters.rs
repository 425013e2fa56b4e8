//! The parameters of a request: a query or a form (`application/x-www-form-urlencoded`).

use std::fmt;

use http::header::CONTENT_TYPE;
use zeroize::Zeroize;

use crate::message::Request;

/// Most parameters of a request; the longest real one, an authorization request, has fifteen.
const MAX_PARAMETERS: usize = 64;

/// What is wrong with the parameters as a whole. A repeated one may be read differently by different programs, so the
/// request as a whole is not believed (RFC 6749 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParameterError {
    /// A parameter occurs twice.
    #[error("a parameter of the request is repeated")]
    Repeated,
    /// More than 64.
    #[error("the request has too many parameters")]
    TooMany,
    /// Not a form.
    #[error("the request is not application/x-www-form-urlencoded")]
    NotAForm,
}

/// The parameters, in order. An empty one is as if it had been left out (RFC 6749 section 3.1).
pub(super) struct Parameters(Vec<(String, String)>);

/// Codes, verifiers, tokens and secrets of clients are among the values.
impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Drop for Parameters {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|(_, value)| value.zeroize());
    }
}

impl Parameters {
    /// Reads a query.
    pub(super) fn of_query(request: &Request) -> Result<Self, ParameterError> {
        Self::parse(request.query.as_deref().unwrap_or_default().as_bytes())
    }

    /// Reads a form.
    pub(super) fn of_form(request: &Request) -> Result<Self, ParameterError> {
        let content_type = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(ParameterError::NotAForm);
        }
        Self::parse(&request.body)
    }

    fn parse(bytes: &[u8]) -> Result<Self, ParameterError> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(bytes) {
            if parameters.len() >= MAX_PARAMETERS {
                return Err(ParameterError::TooMany);
            }
            // Several resources may be named (RFC 8707 section 2); that is refused later, and told to the client.
            if name != "resource" && parameters.iter().any(|(known, _)| *known == name) {
                return Err(ParameterError::Repeated);
            }
            parameters.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(parameters))
    }

    /// A parameter that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// All of them, as they came.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_parameter_is_refused_even_with_the_same_value() {
        assert_eq!(Parameters::parse(b"code=a&state=s&code=a").unwrap_err(), ParameterError::Repeated);
        assert_eq!(Parameters::parse(b"code=a&c%6fde=b").unwrap_err(), ParameterError::Repeated);
        assert!(Parameters::parse(b"resource=a&resource=b").is_ok());
    }

    #[test]
    fn an_empty_parameter_counts_as_left_out() {
        let parameters = Parameters::parse(b"scope=&state=s").unwrap();
        assert_eq!((parameters.get("scope"), parameters.get("state")), (None, Some("s")));
    }

    #[test]
    fn too_many_parameters_are_refused() {
        let query: String = (0..65).map(|number| format!("p{number}=x&")).collect();
        assert_eq!(Parameters::parse(query.as_bytes()).unwrap_err(), ParameterError::TooMany);
    }
}
