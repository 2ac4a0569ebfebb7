"""Stands where your model server will: answers chat in OpenAI's shape, and says for whom."""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    def do_GET(self):
        models = [{"id": "llama-8b", "object": "model", "created": 0, "owned_by": "example"}]
        found = {"/health": {"status": "ok"}, "/v1/models": {"object": "list", "data": models}}.get(self.path)
        self.answer(200 if found else 404, found or {"error": {"message": "no such page"}})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            request = json.loads(body)
            model, stream = request["model"], request.get("stream")
        except (ValueError, KeyError, TypeError, AttributeError):
            return self.answer(400, {"error": {"message": "a JSON object with `model` is needed"}})
        text = f"Hello, {self.headers.get('x-tollgate-org', 'whoever you are')}."
        head = {"id": "chatcmpl-1", "created": 0, "model": model}
        if stream:
            chunk = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            event = json.dumps({**head, "object": "chat.completion.chunk", "choices": [chunk]})
            return self.send(200, "text/event-stream", f"data: {event}\n\ndata: [DONE]\n\n")
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        self.answer(200, {**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    def answer(self, status, value):
        self.send(status, "application/json", json.dumps(value))

    def send(self, status, content_type, text):
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass  # the gateway has the access log


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=8000, help="0 is a free one")
    options = arguments.parse_args()
    server = ThreadingHTTPServer((options.host, options.port), Model)
    print(f"listening on {server.server_address[0]}:{server.server_port}", flush=True)
    server.serve_forever()
