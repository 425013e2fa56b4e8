//! Interfaces that a host of WASI alone has nothing for. Everything is refused, or left to the component.

use super::Adapter;
use super::generated::exports::entra_mcp::plugin as wit;

/// Documents are at addresses that clients choose. `wasi:http` of such a host goes to any address, internal ones too.
impl wit::client_metadata::Guest for Adapter {
    fn fetch(_url: String, _client_address: Option<String>) -> wit::client_metadata::Fetched {
        let reason = "this host reads no metadata documents".to_owned();
        Err(wit::client_metadata::FetchError::Denied(reason))
    }
}

/// Arithmetic is no faster here than in the component.
impl wit::signatures::Guest for Adapter {
    fn judge_rs256(_modulus: Vec<u8>, _signed: Vec<u8>, _signature: Vec<u8>) -> wit::signatures::Verdict {
        wit::signatures::Verdict::Unknown
    }
}

/// There is no person at the machine.
impl wit::user_agent::Guest for Adapter {
    type LoopbackListener = NoListener;

    fn open_browser(_url: String) -> Result<(), wit::user_agent::UserAgentError> {
        Err(wit::user_agent::UserAgentError::Unsupported)
    }

    fn prompt(_message: String) {}
}

/// Never made.
pub(super) struct NoListener;

impl wit::user_agent::GuestLoopbackListener for NoListener {
    fn open() -> Result<wit::user_agent::LoopbackListener, wit::user_agent::UserAgentError> {
        Err(wit::user_agent::UserAgentError::Unsupported)
    }

    fn attach(_id: String) -> Result<wit::user_agent::LoopbackListener, wit::user_agent::UserAgentError> {
        Err(wit::user_agent::UserAgentError::Unsupported)
    }

    fn redirect_uri(&self) -> String {
        String::new()
    }

    fn wait(&self, _timeout_ms: u32) -> Option<String> {
        None
    }

    fn respond(&self, _page: wit::user_agent::Page) {}

    fn detach(&self, _lifetime_seconds: u32) -> String {
        String::new()
    }
}

/// Nor a broker with the sign-ins of one.
impl wit::identity_broker::Guest for Adapter {
    type InteractiveRequest = NoInteraction;

    fn accounts(_client_id: String, _correlation_id: String) -> wit::identity_broker::ListedAccounts {
        Err(no_broker())
    }

    fn acquire_silently(_request: wit::identity_broker::BrokerRequest) -> wit::identity_broker::Acquired {
        Err(no_broker())
    }
}

/// A request that no broker gets.
pub(super) struct NoInteraction;

impl wit::identity_broker::GuestInteractiveRequest for NoInteraction {
    fn start(_request: wit::identity_broker::BrokerRequest) -> wit::identity_broker::InteractiveRequest {
        wit::identity_broker::InteractiveRequest::new(Self)
    }

    fn wait(&self, _timeout_ms: u32) -> wit::identity_broker::BrokerAnswer {
        wit::identity_broker::BrokerAnswer::Failed(no_broker())
    }
}

fn no_broker() -> wit::identity_broker::BrokerError {
    wit::identity_broker::BrokerError::Absent("this host asks no broker".to_owned())
}

/// Requests over HTTP do not share a connection.
impl wit::client_channel::Guest for Adapter {
    type PendingRequest = NoRequest;

    fn notify(_method: String, _params: String) {}

    fn request(_method: String, _params: String, _timeout_ms: u32) -> wit::client_channel::PendingRequest {
        wit::client_channel::PendingRequest::new(NoRequest)
    }

    fn state() -> Option<String> {
        None
    }

    fn set_state(_value: String) {}
}

/// A request to a client that cannot be reached.
pub(super) struct NoRequest;

impl wit::client_channel::GuestPendingRequest for NoRequest {
    fn wait(&self, _timeout_ms: u32) -> wit::client_channel::Answer {
        wit::client_channel::Answer::Failed(wit::client_channel::ChannelError::Unsupported)
    }
}

/// No host runs tools of other components here.
impl wit::provided_tools::Guest for Adapter {
    fn list_tools(_server: String) -> wit::provided_tools::Listed {
        Err(none())
    }

    fn call(
        _server: String,
        _name: String,
        _arguments: String,
        _caller: wit::provided_tools::Caller,
        _handle: String,
    ) -> wit::provided_tools::Called {
        Err(none())
    }
}

fn none() -> wit::provided_tools::ProviderError {
    wit::provided_tools::ProviderError::Unavailable("this host runs no tools".to_owned())
}
