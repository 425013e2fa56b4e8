//! The calls that the gate begins and ends.

use std::rc::Rc;

use entra_mcp_boundary::answer::Reads;

use super::Keeper;
use super::answers::Answer;
use super::call::{AskedId, Begun, begin, take_current};
use super::generated::exports::entra_mcp::wrap::kept;
use super::http::{IncomingRequest, ResponseOutparam};

impl kept::Guest for Keeper {
    fn begin(call: kept::Call, client: kept::Client) -> kept::Handed {
        let reads = Reads { judged: call.judge_answer, noted: call.note_answer, tied: !call.event_key.is_empty() };
        let current = begin(Begun {
            handle: call.handle,
            correlation_id: call.correlation_id,
            reads,
            event_key: call.event_key,
            begun: call.begun,
            asked: AskedId::of(if reads.judged { &call.body } else { &[] }),
            report: call.report_answer,
            client,
        });
        let request = IncomingRequest::new(call.method, call.path, call.authority, call.headers, call.body);
        kept::Handed {
            request: kept::IncomingRequest::new(request),
            answer: kept::ResponseOutparam::new(ResponseOutparam::new(Rc::clone(&current))),
        }
    }

    fn end() {
        let Some(call) = take_current() else { return };
        // What the tool has not answered, or not to the end, is answered now.
        Answer::end_of(&call);
        call.end();
    }
}
