//! Tests of `stdio.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, BufReader, DuplexStream, Lines};
use tokio::sync::Semaphore;

use super::*;
use crate::clock::ManualClock;
use crate::random::SystemRandomness;

async fn lines_of(input: &[u8], max_bytes: usize) -> Vec<InputLine> {
    // A small buffer, so that lines arrive in parts.
    let mut reader = LineReader::new(BufReader::with_capacity(3, input), max_bytes);
    let mut lines = Vec::new();
    while let Some(line) = reader.next().await.unwrap() {
        lines.push(line);
    }
    lines
}

fn message(text: &str) -> InputLine {
    InputLine::Message(text.into())
}

#[tokio::test]
async fn lines_are_split_and_blank_ones_left_out() {
    assert_eq!(lines_of(b"ab\n\n  \r\ncdefgh\n", 9).await, [message("ab"), message("cdefgh")]);
}

#[tokio::test]
async fn the_last_line_may_lack_its_line_break() {
    assert_eq!(lines_of(b"ab\ncd", 9).await, [message("ab"), message("cd")]);
}

#[tokio::test]
async fn a_line_at_the_limit_is_read_and_a_longer_one_skipped() {
    assert_eq!(lines_of(b"1234\n12345\n1\n", 4).await, [message("1234"), InputLine::TooLong, message("1")]);
    assert_eq!(lines_of(b"12345", 4).await, [InputLine::TooLong]);
}

/// What the fake component does with a message is in its `method`.
struct Fake {
    calls: AtomicUsize,
    /// A permit lets one `wait` or `initialize` go on.
    gate: Semaphore,
}

impl Fake {
    fn open(&self) {
        self.gate.add_permits(1);
    }

    async fn wait(&self) {
        self.gate.acquire().await.unwrap().forget();
    }
}

#[async_trait]
impl Handler for Fake {
    async fn handle(&self, message: &str, _: &MessageContext, channel: Arc<dyn ClientChannel>) -> Option<String> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let Ok(message) = serde_json::from_str::<Value>(message) else {
            return Some(error_answer("null", PARSE_ERROR, "garbage"));
        };
        let result = match message["method"].as_str()? {
            "echo" => message["params"].clone(),
            "pretty" => return Some(format!("{{\n\"id\":{}\r\n}}", message["id"])),
            "wait" | "initialize" => {
                self.wait().await;
                json!("waited")
            }
            "ask" => match channel.request("elicitation/create", r#"{"a":1}"#, Duration::from_secs(9)).await {
                Ok(result) => serde_json::from_str(&result).unwrap(),
                Err(error) => json!(format!("{error:?}")),
            },
            "notify" => {
                channel.notify("notifications/progress", "{\n\"progress\":1}").await;
                json!(null)
            }
            "remember" => {
                let before = channel.state();
                channel.set_state(message["params"].to_string());
                json!(before)
            }
            "panic" => panic!("as asked"),
            _ => return None,
        };
        Some(json!({ "id": message["id"], "result": result }).to_string())
    }
}

struct Client {
    fake: Arc<Fake>,
    clock: ManualClock,
    input: DuplexStream,
    output: Lines<BufReader<DuplexStream>>,
    server: JoinHandle<End>,
    stop: Option<oneshot::Sender<()>>,
}

impl Client {
    fn connect() -> Self {
        let (fake, clock) =
            (Arc::new(Fake { calls: AtomicUsize::new(0), gate: Semaphore::new(0) }), ManualClock::new(0));
        let (input, server_input) = tokio::io::duplex(1 << 16);
        let (output, server_output) = tokio::io::duplex(1 << 16);
        let (stop, stopped) = oneshot::channel::<()>();
        let (handler, server_clock) = (Arc::clone(&fake), clock.clone());
        let server = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            let (random, input) = (SystemRandomness::default(), BufReader::new(server_input));
            serve(handler, Arc::new(server_clock), &random, input, server_output, 1_000, stopped).await.unwrap()
        });
        Self { fake, clock, input, output: BufReader::new(output).lines(), server, stop: Some(stop) }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.input.write_all(bytes).await.unwrap();
    }

    async fn send(&mut self, message: Value) {
        self.write(format!("{message}\n").as_bytes()).await;
    }

    async fn request(&mut self, id: u32, method: &str) {
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": {} })).await;
    }

    async fn receive(&mut self) -> Value {
        serde_json::from_str(&self.output.next_line().await.unwrap().unwrap()).unwrap()
    }

    /// Waits until the fake component has been called so often.
    async fn called(&self, times: usize) {
        while self.fake.calls.load(Ordering::SeqCst) < times {
            tokio::task::yield_now().await;
        }
    }

    /// Closes the input; returns what is still written, and how the server ended.
    async fn close(mut self) -> (Vec<Value>, End) {
        drop(self.input);
        let mut rest = Vec::new();
        while let Some(line) = self.output.next_line().await.unwrap() {
            rest.push(serde_json::from_str(&line).unwrap());
        }
        (rest, self.server.await.unwrap())
    }
}

fn error(id: Value, code: i32, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

#[tokio::test]
async fn a_waiting_request_does_not_hold_up_others() {
    let mut client = Client::connect();
    client.request(1, "wait").await;
    client.request(2, "echo").await;
    assert_eq!(client.receive().await["id"], 2);
    client.fake.open();
    assert_eq!(client.receive().await["id"], 1);
}

#[tokio::test]
async fn messages_after_initialize_wait_for_its_answer() {
    let mut client = Client::connect();
    client.request(1, "initialize").await;
    client.request(2, "echo").await;
    client.called(1).await;
    tokio::task::yield_now().await;
    assert_eq!(client.fake.calls.load(Ordering::SeqCst), 1);
    client.fake.open();
    assert_eq!(client.receive().await["id"], 1);
    assert_eq!(client.receive().await["id"], 2);
}

#[tokio::test]
async fn a_cancelled_request_is_not_answered() {
    let mut client = Client::connect();
    client.request(1, "wait").await;
    client.called(1).await;
    client.send(json!({ "method": "notifications/cancelled", "params": { "requestId": 1 } })).await;
    client.request(2, "echo").await;
    assert_eq!(client.receive().await["id"], 2);
    client.fake.open();
    assert_eq!(client.close().await, (vec![], End::Input));
}

#[tokio::test]
async fn an_id_as_text_is_not_the_same_number() {
    let mut client = Client::connect();
    client.request(1, "wait").await;
    client.called(1).await;
    client.send(json!({ "method": "notifications/cancelled", "params": { "requestId": "1" } })).await;
    client.request(2, "echo").await;
    client.receive().await;
    client.fake.open();
    assert_eq!(client.receive().await["id"], 1);
}

#[tokio::test]
async fn initialize_cannot_be_cancelled() {
    let mut client = Client::connect();
    client.request(1, "initialize").await;
    client.send(json!({ "method": "notifications/cancelled", "params": { "requestId": 1 } })).await;
    client.fake.open();
    assert_eq!(client.receive().await["id"], 1);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_answered_and_the_connection_goes_on() {
    let mut client = Client::connect();
    client.write(b"\"\xff\xfe\"\n").await;
    assert_eq!(client.receive().await, error(Value::Null, -32700, "the message is not UTF-8"));
    client.request(1, "echo").await;
    assert_eq!(client.receive().await["id"], 1);
}

#[tokio::test]
async fn an_overlong_line_is_answered_and_the_connection_goes_on() {
    let mut client = Client::connect();
    client.write(format!("{}\n", "x".repeat(5_000)).as_bytes()).await;
    assert_eq!(client.receive().await, error(Value::Null, -32600, "the message is longer than 1000 bytes"));
    client.request(1, "echo").await;
    assert_eq!(client.receive().await["id"], 1);
    assert_eq!(client.fake.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn garbage_is_left_to_the_component() {
    let mut client = Client::connect();
    client.write(b"garbage\n").await;
    assert_eq!(client.receive().await, error(Value::Null, -32700, "garbage"));
}

#[tokio::test]
async fn an_answer_with_line_breaks_is_written_on_one_line() {
    let mut client = Client::connect();
    client.request(7, "pretty").await;
    assert_eq!(client.output.next_line().await.unwrap().unwrap(), r#"{"id":7}"#);
    client.request(8, "notify").await;
    assert_eq!(
        client.output.next_line().await.unwrap().unwrap(),
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#
    );
}

#[tokio::test]
async fn the_client_answers_our_request() {
    let mut client = Client::connect();
    client.request(1, "ask").await;
    let asked = client.receive().await;
    assert_eq!(asked["method"], "elicitation/create");
    assert_eq!(asked["params"], json!({ "a": 1 }));
    client.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "accept" } })).await;
    assert_eq!(client.receive().await, json!({ "id": 1, "result": { "action": "accept" } }));
}

#[tokio::test]
async fn the_client_refuses_our_request() {
    let mut client = Client::connect();
    client.request(1, "ask").await;
    let asked = client.receive().await;
    client.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "error": { "code": 1, "message": "no" } })).await;
    let refused = json!(r#"Refused("{\"code\":1,\"message\":\"no\"}")"#);
    assert_eq!(client.receive().await["result"], refused);
}

#[tokio::test]
async fn ids_of_our_requests_cannot_be_guessed() {
    let mut client = Client::connect();
    client.request(1, "ask").await;
    let asked = client.receive().await;
    assert_eq!(asked["id"].as_str().unwrap().len(), 34);
    client.send(json!({ "jsonrpc": "2.0", "id": "0", "result": { "action": "accept" } })).await;
    client.send(json!({ "jsonrpc": "2.0", "id": 0, "result": { "action": "accept" } })).await;
    client.request(2, "echo").await;
    assert_eq!(client.receive().await["id"], 2);
}

#[tokio::test]
async fn a_request_that_times_out_is_cancelled() {
    let mut client = Client::connect();
    client.request(1, "ask").await;
    let asked = client.receive().await;
    assert_eq!(client.clock.next_wait().await, Duration::from_secs(9));
    client.clock.advance(Duration::from_secs(9));
    let cancelled = client.receive().await;
    assert_eq!(cancelled["method"], "notifications/cancelled");
    assert_eq!(cancelled["params"]["requestId"], asked["id"]);
    assert_eq!(client.receive().await["result"], "TimedOut");
}

#[tokio::test]
async fn a_request_of_a_call_that_is_cancelled_is_cancelled_too() {
    let mut client = Client::connect();
    client.request(1, "ask").await;
    let asked = client.receive().await;
    client.send(json!({ "method": "notifications/cancelled", "params": { "requestId": 1 } })).await;
    assert_eq!(client.receive().await["params"]["requestId"], asked["id"]);
}

#[tokio::test]
async fn state_lasts_as_long_as_the_connection() {
    let mut client = Client::connect();
    client.request(1, "remember").await;
    assert_eq!(client.receive().await["result"], Value::Null);
    client.request(2, "remember").await;
    assert_eq!(client.receive().await["result"], "{}");
}

#[tokio::test]
async fn more_requests_than_the_bound_are_answered_as_busy() {
    let mut client = Client::connect();
    for id in 0..MAX_CALLS {
        client.request(id.try_into().unwrap(), "wait").await;
    }
    client.request(999, "echo").await;
    let busy = error(json!(999), -32603, "busy: too many requests at the same time");
    assert_eq!(client.receive().await, busy);
    client.fake.open();
    client.receive().await;
    client.request(1_000, "echo").await;
    assert_eq!(client.receive().await["id"], 1_000);
}

#[tokio::test]
async fn a_burst_of_short_requests_is_served() {
    let client = Client::connect();
    let burst: u32 = (MAX_CALLS * 4).try_into().unwrap();
    let lines: String = (0..burst).map(|id| format!("{{\"id\":{id},\"method\":\"echo\"}}\n")).collect();
    let Client { mut input, mut output, .. } = client;
    let writing = tokio::spawn(async move {
        input.write_all(lines.as_bytes()).await.unwrap();
        input
    });
    for _ in 0..burst {
        let answer: Value = serde_json::from_str(&output.next_line().await.unwrap().unwrap()).unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
    }
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn a_call_that_panics_is_answered_as_internal_error() {
    let mut client = Client::connect();
    client.request(1, "panic").await;
    assert_eq!(client.receive().await, error(json!(1), -32603, "internal error"));
}

#[tokio::test]
async fn requests_in_flight_are_answered_after_the_end_of_input() {
    let mut client = Client::connect();
    client.request(1, "wait").await;
    client.called(1).await;
    client.fake.open();
    let (rest, end) = client.close().await;
    assert_eq!((rest.len(), end), (1, End::Input));
}

#[tokio::test(start_paused = true)]
async fn requests_that_outlast_the_grace_are_cancelled() {
    let mut client = Client::connect();
    client.request(1, "wait").await;
    client.called(1).await;
    assert_eq!(client.close().await, (vec![], End::Input));
}

#[tokio::test]
async fn our_request_fails_when_the_client_is_gone() {
    let mut client = Client::connect();
    client.request(1, "ask").await;
    client.receive().await;
    let (rest, end) = client.close().await;
    assert_eq!(rest, [json!({ "id": 1, "result": "Closed" })]);
    assert_eq!(end, End::Input);
}

#[tokio::test]
async fn a_stop_ends_the_server() {
    let mut client = Client::connect();
    client.request(1, "echo").await;
    client.receive().await;
    drop(client.stop.take());
    assert_eq!(client.server.await.unwrap(), End::Stopped);
    let mut rest = String::new();
    client.output.into_inner().read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "");
}

#[tokio::test]
async fn a_client_that_closes_our_output_ends_the_server() {
    let mut client = Client::connect();
    drop(client.output);
    client.input.write_all(b"{\"id\":1,\"method\":\"echo\"}\n").await.unwrap();
    assert_eq!(client.server.await.unwrap(), End::Output);
}
