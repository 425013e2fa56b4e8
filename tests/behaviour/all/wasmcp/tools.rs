//! `entra_mcp.wasmcp-tools.wasm` in the chain of handlers.

use entra_mcp_emulator::{Endpoint, Fault};
use serde_json::{Value, json};

use super::host::authorization::wasmcp::mcp_v20251125::mcp::{
    CallToolRequest, CallToolResult, ClientMessage, ClientNotification, ClientRequest, ContentBlock, Error, ErrorCode,
    Identity, ListToolsRequest, ListToolsResult, NotificationOptions, ServerResult, TextData, Tool,
};
use super::host::{Chain, Server, lab, method_not_found};
use crate::support::lab::{Lab, app};
use crate::tools::mail::{assert_no_client_token_left, bearer, watch};
use crate::verdict::corpus::signed;

const ALICE: &str = "alice@contoso.example";
const BOB: &str = "bob@contoso.example";
const OWN: &str = "getUserDetails";
const NOT_VALID: &str = "the access token is not valid for this server";

/// Who calls, as transport says it to the first handler of the chain.
async fn identity(server: &Server, token: &str) -> Identity {
    server.gate().await.admit(&format!("Bearer {token}")).await.expect("it is good")
}

fn call(tool: &str) -> ClientRequest {
    ClientRequest::ToolsCall(CallToolRequest { name: tool.to_owned(), arguments: Some("{}".to_owned()) })
}

fn list(cursor: Option<&str>) -> ClientRequest {
    ClientRequest::ToolsList(ListToolsRequest { cursor: cursor.map(str::to_owned) })
}

fn tool(name: &str) -> Tool {
    Tool { name: name.to_owned(), input_schema: "{}".to_owned(), options: None }
}

/// A list of tools of a handler behind.
fn listed(names: &[&str], next_cursor: Option<&str>) -> Option<Result<ServerResult, ErrorCode>> {
    let tools = names.iter().map(|name| tool(name)).collect();
    let next_cursor = next_cursor.map(str::to_owned);
    Some(Ok(ServerResult::ToolsList(ListToolsResult { meta: None, next_cursor, tools })))
}

/// The text of the answer to a call, and whether it is an error.
fn said(result: &CallToolResult) -> (&str, bool) {
    let [ContentBlock::Text(text)] = result.content.as_slice() else { panic!("{result:?}") };
    let TextData::Text(text) = &text.text else { panic!("{result:?}") };
    (text, result.is_error == Some(true))
}

async fn own_tool(chain: &mut Chain, identity: Option<&Identity>) -> CallToolResult {
    match chain.request(call(OWN), identity).await {
        Ok(ServerResult::ToolsCall(result)) => result,
        other => panic!("{other:?}"),
    }
}

/// What a caller with this identity is told in place of an answer.
async fn denied(server: &Server, identity: Option<&Identity>) -> String {
    let mut chain = server.chain().await;
    let result = own_tool(&mut chain, identity).await;
    let (text, is_error) = said(&result);
    assert!(is_error && result.structured_content.is_none(), "{result:?}");
    assert!(chain.behind().handed.is_empty(), "it is answered here");
    text.to_owned()
}

/// The same of a server with these settings, with claims that say what good ones do.
async fn denied_token(lab: &Lab, settings: &[(&str, &str)], token: &str) -> String {
    let good = identity(&Server::new(lab, &[]), &bearer(&lab.emulator, ALICE).await).await;
    let claimed = Identity { jwt: token.as_bytes().to_vec(), ..good };
    denied(&Server::new(lab, settings), Some(&claimed)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_answers_with_the_profile_of_the_person_who_calls() {
    let lab = lab().await;
    let server = Server::new(&lab, &[]);
    let tokens = [bearer(&lab.emulator, ALICE).await, bearer(&lab.emulator, BOB).await];
    watch(&lab.emulator, &tokens);
    let asked = lab.control().request_count(Endpoint::Token);
    let mut chain = server.chain().await;
    // By turns, in one instance.
    for _ in 0..2 {
        for (token, username) in tokens.iter().zip([ALICE, BOB]) {
            let result = own_tool(&mut chain, Some(&identity(&server, token).await)).await;
            let (text, is_error) = said(&result);
            assert!(!is_error, "{text}");
            assert_eq!(result.structured_content.as_deref(), Some(text));
            let answer: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(answer["userPrincipalName"], username);
        }
    }
    assert!(chain.behind().handed.is_empty(), "it is answered here");
    // Entra ID was asked once for each of them, and Graph saw no token of a client.
    assert_eq!(lab.control().request_count(Endpoint::Token) - asked, 2);
    assert_eq!(lab.control().request_count(Endpoint::GraphMe), 4);
    assert_no_client_token_left(&lab.emulator);
    assert!(tokens.iter().all(|token| !server.log().contains(token)), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_tools_are_called_behind_by_a_caller_without_a_token() {
    let lab = lab().await;
    let server = Server::new(&lab, &[]);
    let token = bearer(&lab.emulator, ALICE).await;
    let alice = identity(&server, &token).await;
    let mut chain = server.chain().await;
    let result = CallToolResult { meta: None, content: Vec::new(), is_error: None, structured_content: None };
    chain.behind().answers.push_back(Some(Ok(ServerResult::ToolsCall(result))));
    let answer = chain.request(call("add"), Some(&alice)).await;
    assert!(matches!(answer, Ok(ServerResult::ToolsCall(_))), "{answer:?}");

    let handed = chain.behind().handed.pop().expect("it was handed on");
    let ClientMessage::Request((_, ClientRequest::ToolsCall(request))) = &handed.message else {
        panic!("{:?}", handed.message)
    };
    assert_eq!((request.name.as_str(), request.arguments.as_deref()), ("add", Some("{}")));
    assert_eq!((handed.path.as_deref(), handed.has_stream), (Some("/mcp"), true));
    let behind = handed.identity.expect("the caller is named");
    assert_eq!(behind.jwt, b"");
    assert_eq!(
        (&behind.claims.subject, &behind.claims.custom_claims),
        (&alice.claims.subject, &alice.claims.custom_claims)
    );
    assert!(!format!("{behind:?}").contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_does_not_know_is_answered_behind() {
    let lab = lab().await;
    let server = Server::new(&lab, &[]);
    let mut chain = server.chain().await;
    let request = ClientRequest::ResourcesSubscribe("file:///a".to_owned());
    let answer = chain.request(request, None).await;
    assert!(matches!(answer, Err(ErrorCode::MethodNotFound(_))), "{answer:?}");
    chain.notify(ClientNotification::Initialized(NotificationOptions { meta: None, extras: None })).await;
    let handed = &chain.behind().handed;
    assert_eq!(handed.len(), 2);
    assert!(handed.iter().all(|handed| handed.identity.is_none()));
    assert_eq!((handed[0].has_stream, handed[1].has_stream), (true, false));
    assert!(matches!(handed[1].message, ClientMessage::Notification(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_is_listed_on_the_first_page_before_those_behind() {
    let lab = lab().await;
    let server = Server::new(&lab, &[]);
    let mut chain = server.chain().await;
    for (cursor, behind, expected, next) in [
        (None, listed(&["add", OWN], Some("2")), vec![OWN, "add"], Some("2")),
        (Some("2"), listed(&["subtract"], None), vec!["subtract"], None),
        (None, Some(Err(method_not_found())), vec![OWN], None),
        (None, None, vec![OWN], None),
    ] {
        chain.behind().answers.push_back(behind);
        let answer = chain.request(list(cursor), None).await;
        let Ok(ServerResult::ToolsList(listed)) = answer else { panic!("{answer:?}") };
        let names: Vec<_> = listed.tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!((names, listed.next_cursor.as_deref()), (expected, next));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_had_behind_is_an_error_and_not_half_a_list() {
    let lab = lab().await;
    let server = Server::new(&lab, &[]);
    let mut chain = server.chain().await;
    let error = Error { code: -32000, message: "broken".to_owned(), data: None };
    for (cursor, behind, expected) in [
        (None, Some(Err(ErrorCode::Server(error))), "broken"),
        (Some("2"), Some(Err(method_not_found())), "Method not found"),
        (Some("2"), None, "the handler behind did not answer with a list of tools"),
        (None, Some(Ok(ServerResult::Ping)), "the handler behind did not answer with a list of tools"),
    ] {
        chain.behind().answers.push_back(behind);
        let answer = chain.request(list(cursor), None).await;
        let Err(ErrorCode::Server(error) | ErrorCode::MethodNotFound(error) | ErrorCode::InternalError(error)) = answer
        else {
            panic!("{answer:?}")
        };
        assert_eq!(error.message, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_says_that_the_tool_only_reads() {
    let lab = lab().await;
    let server = Server::new(&lab, &[]);
    let answer = server.chain().await.request(list(None), None).await;
    let Ok(ServerResult::ToolsList(listed)) = answer else { panic!("{answer:?}") };
    let [tool] = listed.tools.as_slice() else { panic!("{listed:?}") };
    let options = tool.options.as_ref().expect("options");
    let hints = options.annotations.as_ref().expect("annotations");
    assert_eq!((hints.read_only_hint, hints.destructive_hint), (Some(true), Some(false)));
    let schema: Value = serde_json::from_str(&tool.input_schema).expect("JSON");
    assert_eq!(schema, json!({ "type": "object", "properties": {}, "additionalProperties": false }));
    let schema: Value = serde_json::from_str(options.output_schema.as_deref().expect("a schema")).expect("JSON");
    assert_eq!(schema["required"], json!(["displayName", "mail", "userPrincipalName"]));
}

/// Composed without a component that judges tokens, or with one that accepts too much.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_token_is_not_good_here_gets_no_answer_whatever_the_claims_say() {
    let lab = lab().await;
    let server = Server::new(&lab, &[]);
    assert_eq!(denied(&server, None).await, "sign in first: this call has no access token");
    let now = lab.control().now();
    let application = json!({ "scp": null, "roles": ["Mcp.Reader"], "idtyp": "app", "sub": app(9), "oid": app(9) });
    let forged = lab.control().sign(&json!({ "aud": "x" }), true).expect("a token");
    for (token, expected) in [
        (String::new(), NOT_VALID),
        ("nonsense".to_owned(), NOT_VALID),
        (forged, NOT_VALID),
        (signed(&lab, &json!({ "aud": app(3) })), NOT_VALID),
        (signed(&lab, &json!({ "exp": now - 3600 })), "the access token has expired"),
        (signed(&lab, &json!({ "scp": "Mcp.Admin" })), "the access token lacks a required scope"),
        (signed(&lab, &application), "access is not allowed for this account or application"),
    ] {
        assert_eq!(denied_token(&lab, &[], &token).await, expected);
    }
    let good = identity(&server, &bearer(&lab.emulator, ALICE).await).await;
    let binary = Identity { jwt: vec![0xff], ..good };
    assert_eq!(denied(&server, Some(&binary)).await, NOT_VALID);
    assert_eq!(lab.control().request_count(Endpoint::GraphMe), 0, "Graph was not asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_settings_no_caller_gets_an_answer_and_the_log_says_why() {
    let lab = lab().await;
    let token = bearer(&lab.emulator, ALICE).await;
    let alice = identity(&Server::new(&lab, &[]), &token).await;
    for (name, value, said) in [
        ("AZURE_CLIENT_SECRET", "", "AZURE_CLIENT_SECRET is not set"),
        ("ENTRA_MCP_TENANT_ID", "", "ENTRA_MCP_TENANT_ID is not set"),
        ("ENTRA_MCP_GRAPH_URL", "", "ENTRA_MCP_GRAPH_URL is not set"),
        ("ENTRA_MCP_GRAPH_URL", "http://graph.example.com", "ENTRA_MCP_GRAPH_URL is not accepted"),
        ("ENTRA_MCP_STORE", "/records", "ENTRA_MCP_STORE has no effect in entra_mcp.wasmcp-tools.wasm: unset it"),
    ] {
        let server = Server::new(&lab, &[(name, value)]);
        let told = denied(&server, Some(&alice)).await;
        assert_eq!(told, "the server is not configured correctly: its operator finds the reason in the log");
        assert!(server.log().starts_with(&format!("entra-mcp: cannot start: {said}")), "{}", server.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_entra_id_and_graph_refuse_is_told_without_the_secret_and_logged() {
    let lab = lab().await;
    let token = bearer(&lab.emulator, ALICE).await;
    let wrong = "wrong-secret-of-the-operator";
    let told = denied_token(&lab, &[("AZURE_CLIENT_SECRET", wrong)], &token).await;
    assert!(told.contains("AADSTS7000215") && !told.contains(wrong), "{told}");

    lab.control().inject(Fault::on(Endpoint::GraphMe).always().status(403));
    let server = Server::new(&lab, &[]);
    let told = denied(&server, Some(&identity(&server, &token).await)).await;
    assert!(told.starts_with("Microsoft Graph does not allow this"), "{told}");
    assert!(server.log().contains("entra-mcp: getUserDetails has no answer: graph-forbidden"), "{}", server.log());
    lab.control().clear_faults();

    // The keys are not known yet, and cannot be had.
    let alice = identity(&server, &token).await;
    lab.control().inject(Fault::on(Endpoint::OpenidConfiguration).always().status(400));
    let told = denied(&server, Some(&alice)).await;
    assert_eq!(told, "the token cannot be checked at the moment, try again later");
}
