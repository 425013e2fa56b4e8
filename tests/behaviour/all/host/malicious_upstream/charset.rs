//! Answers whose type names a charset. A client that decodes by it reads other words than the gate, which reads UTF-8.

use super::*;

/// A list of tools to a client that reads UTF-7. In UTF-8, it has no member that is judged.
const HIDDEN: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"+AHQAbwBvAGwAcw-":[{"name":"delete_record"}]}}"#;

#[tokio::test]
async fn no_charset_makes_a_client_read_another_message_than_the_gate() {
    for rules in [RULES, ""] {
        let lab = Lab::new(rules).await;
        for (media, begin) in [("application/json", ""), ("text/event-stream", "data: ")] {
            let of = |parameters: &str, message: &str| {
                let content_type = format!("{media}{parameters}");
                format!("{}\r\n{begin}{message}\n\n", head("200 OK", &content_type, "")).into_bytes()
            };
            for parameters in [
                "; charset=utf-7",
                ";CHARSET=\"UTF-7\"",
                "; charset=utf-8; charset=utf-7",
                "; charset*=utf-8''utf-7",
                "; charset*0=utf; charset*1=-7",
            ] {
                lab.breaks(of(parameters, HIDDEN)).await;
            }
            lab.answers_bytes(of("; Charset=\"UTF-8\"; a=b", &list(&[FREE])));
            let got = lab.list().await;
            assert_eq!(got.headers["content-type"], media, "its parameters stay with the gate");
            assert_eq!(got.tools(), [FREE]);
        }
    }
}
