"""A fake randomuser.me for the containers of one network: TLS under that name, with a CA that only they trust. It
forwards to the bundled API. Nothing leaves the machine.
"""

import ssl
import threading
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from workspace import WORK, run

NAME = "randomuser.me"
FOLDER = WORK / "fake-site"
AUTHORITY = FOLDER / "authority.pem"


class ProxyHandler(BaseHTTPRequestHandler):
    """Returns the bundled API's response."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with urllib.request.urlopen(f"{self.server.upstream}{self.path}", timeout=30) as response:
            body = response.read()
            self.send_response(response.status)
            self.send_header("Content-Type", response.headers["Content-Type"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.requests.append((self.headers["Host"], self.path))

    def log_message(self, *_):
        pass


@contextmanager
def site(address, upstream):
    """Serves port 443 of `address` while the context is open. Yields the requests so far, as host and path."""
    certify()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(FOLDER / "site.pem", FOLDER / "site.key")
    server = ThreadingHTTPServer((address, 443), ProxyHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.upstream, server.requests = upstream, []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def certify():
    """Creates a CA and the site's certificate, valid for two days."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    run(*new, "-x509", "-subj", "/CN=affluent deploy-check", "-keyout", FOLDER / "authority.key", "-out", AUTHORITY)
    run(*new, "-x509", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
        "-addext", "basicConstraints=critical,CA:FALSE", "-CA", AUTHORITY, "-CAkey", FOLDER / "authority.key",
        "-keyout", FOLDER / "site.key", "-out", FOLDER / "site.pem")  # fmt: skip
