//! Header fields of requests: which go to the component, and which to the tool. The rules are those of the gate of the
//! program (`host/gate/src/gate/request.rs`), which says why.

/// A field: its name in lower case, and its value.
pub type Field = (String, Vec<u8>);

/// Fields that are about one connection (RFC 9110 section 7.6.1), besides those that `Connection` names.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Fields that are between the client and this server.
const OURS: [&str; 7] = ["authorization", "cookie", "origin", "referer", "host", "content-length", "expect"];

/// Fields that have one value, besides those of MCP.
const SINGLE: [&str; 2] = ["content-type", "last-event-id"];
const MCP: &str = "mcp-";

/// The methods of MCP over HTTP.
pub const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];

/// A request with a field that has one value, several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous;

/// The fields without those about the connection, and without names that a CGI or WSGI server takes for others, so that the
/// component judges what is sent on. What `Connection` names is not removed: the host has done that, and a client could
/// name the field in which a proxy says where it is.
pub fn screen(fields: Vec<Field>) -> Result<Vec<Field>, Ambiguous> {
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let mut screened: Vec<Field> = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let name = name.to_ascii_lowercase();
        if HOP_BY_HOP.contains(&name.as_str()) || !plain(&name) {
            continue;
        }
        let single = name.starts_with(MCP) || SINGLE.contains(&name.as_str());
        if single && screened.iter().any(|(known, _)| *known == name) {
            return Err(Ambiguous);
        }
        screened.push((name, value));
    }
    Ok(screened)
}

/// The fields of the request that the tool gets.
pub fn onward(fields: &[Field], drop: &[String], set: &[Field], reads_events: bool) -> Vec<Field> {
    let is_set = |name: &str| set.iter().any(|(known, _)| known == name);
    let stays = |name: &str| {
        // What is read of the answer is not compressed.
        let compresses = reads_events && name == "accept-encoding";
        let dropped = OURS.contains(&name) || HOP_BY_HOP.contains(&name) || drop.iter().any(|known| known == name);
        dropped || compresses || is_set(name)
    };
    let mut onward: Vec<Field> = fields.iter().filter(|(name, _)| !stays(name)).cloned().collect();
    if reads_events {
        onward.push(("accept-encoding".to_owned(), b"identity".to_vec()));
    }
    onward.extend(set.iter().filter(|(name, _)| !HOP_BY_HOP.contains(&name.as_str())).cloned());
    onward
}

/// Fields as one piece, as `whole-requests` takes them: without `host`.
pub fn as_one_piece(fields: &[Field]) -> Vec<u8> {
    let mut piece = Vec::new();
    for (name, value) in fields.iter().filter(|(name, _)| name != "host") {
        piece.extend_from_slice(name.as_bytes());
        piece.push(b':');
        piece.extend_from_slice(value.trim_ascii());
        piece.extend_from_slice(b"\r\n");
    }
    piece
}

/// The fields of an answer that is one piece.
pub fn from_one_piece(piece: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut rest = piece;
    while let Some(colon) = rest.iter().position(|byte| *byte == b':') {
        let (name, after) = rest.split_at(colon);
        let Some(end) = after.windows(2).position(|pair| pair == b"\r\n") else { break };
        let value = after.get(1..end).unwrap_or_default();
        fields.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
        rest = after.get(end.saturating_add(2)..).unwrap_or_default();
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Vec<Field> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn names_that_servers_read_as_others_and_fields_of_the_connection_reach_nothing() {
        let from =
            fields(&[("X_Ms_Client_Principal", "a"), ("Connection", "mcp-name"), ("TE", "x"), ("Mcp-Name", "b")]);
        assert_eq!(screen(from), Ok(fields(&[("mcp-name", "b")])));
        for twice in ["mcp-name", "content-type", "last-event-id"] {
            assert_eq!(screen(fields(&[(twice, "a"), (twice, "a")])), Err(Ambiguous), "{twice}");
        }
    }

    #[test]
    fn the_tool_gets_no_credential_and_what_the_component_sets() {
        let from = fields(&[
            ("authorization", "Bearer a"),
            ("cookie", "a"),
            ("host", "a"),
            ("x-ms-client-principal-id", "forged"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip"),
        ]);
        let set = fields(&[("x-ms-client-principal-id", "1")]);
        let drop = ["x-ms-client-principal-id".to_owned()];
        let expected =
            [("accept", "application/json"), ("accept-encoding", "identity"), ("x-ms-client-principal-id", "1")];
        assert_eq!(onward(&from, &drop, &set, true), fields(&expected));
        assert_eq!(
            onward(&from, &drop, &[], false),
            fields(&[("accept", "application/json"), ("accept-encoding", "gzip")])
        );
    }

    #[test]
    fn fields_are_one_piece_and_back() {
        let from = fields(&[("host", "a"), ("accept", " a:b "), ("x", "")]);
        assert_eq!(as_one_piece(&from), b"accept:a:b\r\nx:\r\n");
        assert_eq!(from_one_piece(b"accept:a:b\r\nx:\r\n"), fields(&[("accept", "a:b"), ("x", "")]));
        assert_eq!(from_one_piece(b"broken"), []);
    }
}
