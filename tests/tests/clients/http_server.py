"""An HTTP/1.1 server: 10 MiB whole or in chunks, their hash, and bodies sent back or hashed."""

import hashlib
import json
import random
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = random.Random(1).randbytes(10 << 20)
HASH = hashlib.sha256(CONTENT).hexdigest().encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            at, size = 0, 1
            while at < len(CONTENT):
                chunk = CONTENT[at : at + size]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                at, size = at + len(chunk), size * 3 % 100_003
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.answer({"/whole": CONTENT, "/sha256": HASH}.get(self.path))

    def do_POST(self):
        body = self.body()
        answers = {"/echo": body + b"\n", "/hash": hashlib.sha256(body).hexdigest().encode()}
        self.answer(answers.get(self.path))

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, content):
        self.send_response(200 if content is not None else 404)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"event": "listening", "address": "127.0.0.1:%d" % server.server_port}), flush=True)
server.serve_forever()
