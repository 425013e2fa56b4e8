"""Verifies assertions with the program of docs/src/reference/identity.md, which is the first argument.

Reads a list of cases from standard input: `headers`, `body`, and `later`, the seconds by which the verifier's clock is
ahead. Prints what became of each: `claims`, or `refused` with the names of the exception's classes.
"""

import datetime
import importlib.util
import json
import sys
from unittest import mock

import jwt
import jwt.api_jwt

spec = importlib.util.spec_from_file_location("page", sys.argv[1])
page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(page)


def clock(ahead):
    class Ahead(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=ahead)

    return Ahead


def outcome(case):
    with mock.patch.object(jwt.api_jwt, "datetime", clock(case["later"])):
        try:
            return {"claims": page.caller(case["headers"], case["body"].encode())}
        except Exception as error:
            return {"refused": [kind.__name__ for kind in type(error).__mro__]}


print(json.dumps([outcome(case) for case in json.load(sys.stdin)]))
