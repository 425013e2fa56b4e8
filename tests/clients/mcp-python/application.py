"""What every application that signs a person in has: the page that the browser comes back to, and a place for tokens."""

import queue
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, urlsplit


class Callback(BaseHTTPRequestHandler):
    """The application's own web server, to which the browser brings the code."""

    answers = queue.SimpleQueue()

    def do_GET(self):
        self.answers.put(dict(parse_qsl(urlsplit(self.path).query)))
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>The application</title><h1>You are signed in</h1>")

    def log_message(self, *_):
        pass


class Storage:
    """Keeps everything in memory."""

    tokens = None
    client = None

    def __init__(self):
        # Every set of tokens, in the order in which they came.
        self.token_sets = []

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens
        self.token_sets.append(tokens)

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client
