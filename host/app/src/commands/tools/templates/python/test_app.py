import unittest
from unittest.mock import patch

import app
from componentize_py_types import Err, Ok
from wit_world.imports.tool_types import Content_Text, ToolError_Failed
from wit_world.imports.wasi_http_types import ErrorCode_HttpRequestDenied


class ToolTest(unittest.TestCase):
    def test_each_line_is_a_subject(self):
        with patch("app.ask", return_value={"value": [{"subject": "Hello"}, {"subject": "Lunch?"}]}):
            self.assertEqual(app.ToolProvider().call("list_mail", "{}", None), Content_Text("Hello\nLunch?"))

    def test_a_refusal_of_graph_is_an_error_of_the_tool(self):
        with patch("app.ask", return_value={"error": {"message": "Access is denied."}}):
            with self.assertRaises(Err) as refused:
                app.ToolProvider().call("list_mail", "{}", None)
        self.assertEqual(refused.exception.value, ToolError_Failed("Access is denied."))

    def test_a_request_without_an_answer_is_an_error_of_the_tool(self):
        with patch("app.Fields"), patch("app.OutgoingRequest"), patch("app.outgoing_handler") as handler:
            handler.handle.return_value.get.return_value = Ok(Err(ErrorCode_HttpRequestDenied()))
            with self.assertRaises(Err) as refused:
                app.ToolProvider().call("list_mail", "{}", None)
        expected = ToolError_Failed("Graph does not answer: ErrorCode_HttpRequestDenied")
        self.assertEqual(refused.exception.value, expected)


if __name__ == "__main__":
    unittest.main()
