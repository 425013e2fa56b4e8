"""A browser of a few lines: follows redirects, keeps cookies, submits the first form it understands.

It shows that the emulator's pages need nothing but HTTP and HTML, and stands in for the system browser:
    browser.py URL            signs in as $SIGN_IN_AS and ends at the application
"""

import os
import sys
from html.parser import HTMLParser
from urllib.parse import urljoin

import requests

PASSWORD = "emulator"
ONE_TIME_CODE = "123456"


class Forms(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.action = None
        self.hidden = {}
        self.inputs = set()
        self.buttons = []
        self.alert = ""
        self._in_alert = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form" and self.action is None:
            self.action = attributes.get("action")
        elif tag == "input":
            self.inputs.add(attributes.get("name"))
            if attributes.get("type") == "hidden":
                self.hidden[attributes.get("name")] = attributes.get("value", "")
        elif tag == "button":
            self.buttons.append((attributes.get("name"), attributes.get("value")))
        self._in_alert = self._in_alert or attributes.get("role") == "alert"

    def handle_endtag(self, tag):
        if tag == "p":
            self._in_alert = False

    def handle_data(self, data):
        if self._in_alert:
            self.alert += data


class Browser:
    def __init__(self):
        self.session = requests.Session()

    def sign_in(self, url, username, method="GET", data=None, stay=False, consents=True):
        """Walks until no form of the sign-in pages is left; returns the last response, or with `stay` the address that
        leads away from the emulator."""
        home = url.split("/")[2]
        for _ in range(30):
            response = self.session.request(method, url, data=data, allow_redirects=False, timeout=None)
            if response.is_redirect:
                url, method, data = urljoin(url, response.headers["location"]), "GET", None
                if stay and url.split("/")[2] != home:
                    return url
                continue
            forms = Forms(response.text)
            if "canary" not in forms.inputs:
                # The answer to the application in a form, which scripts would submit.
                if forms.action and {"code", "error"} & forms.hidden.keys():
                    url, method, data = urljoin(url, forms.action), "POST", forms.hidden
                    continue
                return response
            if forms.alert:
                raise RuntimeError(forms.alert)
            data = dict(forms.hidden)
            if "loginfmt" in forms.inputs:
                data |= {"action": "username", "loginfmt": username}
            elif "passwd" in forms.inputs:
                data |= {"action": "password", "passwd": PASSWORD}
            elif "otc" in forms.inputs:
                data |= {"action": "mfa", "otc": ONE_TIME_CODE}
            elif ("action", "accept") in forms.buttons:
                data |= {"action": "accept" if consents else "decline"}
            elif ("action", "confirm") in forms.buttons:
                data |= {"action": "confirm" if consents else "cancel"}
            elif ("account", username) in forms.buttons:
                data |= {"account": username}
            else:
                data |= {"action": "other"}
            url, method = urljoin(url, forms.action), "POST"
        raise RuntimeError("the sign-in does not end")

    def approve(self, flow, username, consents=True):
        """Types a device code and signs in."""
        page = flow["verification_uri"]
        return self.sign_in(page, username, "POST", {"user_code": flow["user_code"]}, consents=consents)


if __name__ == "__main__":
    Browser().sign_in(sys.argv[1], os.environ["SIGN_IN_AS"])
