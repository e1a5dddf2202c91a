"""An OpenAI-compatible server on the loopback for client_test.cc: python3 test_server.py TOKENIZER_JSON

Prints its port. The first part of a path says how the server behaves: /good/v1/completions answers
as it should, the others each do one thing wrong. The answer to a prompt is its own ids backwards;
the log-probability of id i is -(i % 7) / 4 - 0.25, and even ids are the likeliest at their place.
GET /MODE/seen: what came, and how many requests ran at once.
"""
import collections
import http.server
import json
import sys
import threading
import time

VOCABULARY = json.load(open(sys.argv[1], encoding="utf-8"))["model"]["vocab"]
TEXTS = {i: token for token, i in VOCABULARY.items()}
lock = threading.Lock()
seen = collections.defaultdict(lambda: {"requests": [], "now": 0, "most": 0})


def logprob(i):
    return -(i % 7) / 4 - 0.25


def tokens_of(text):
    """Words of the vocabulary, longest first: as the tests' texts are tokenized."""
    text, ids = "▁" + text.replace(" ", "▁"), []
    while text:
        token = next(text[:n] for n in range(len(text), 0, -1) if text[:n] in VOCABULARY)
        ids.append(VOCABULARY[token])
        text = text[len(token):]
    return ids


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message, **headers):
        self.answer(status, {"error": {"message": message, "type": "x"}}, **headers)

    def do_GET(self):
        mode, *rest = self.path.strip("/").split("/")
        if rest == ["seen"]:
            with lock:
                self.answer(200, seen[mode])
        elif mode == "listless":
            self.refuse(404, "no such path")
        elif mode == "key" and self.headers.get("Authorization") != "Bearer secret":
            self.refuse(401, "wrong key")
        else:
            name = "other" if mode == "elsewhere" else "tiny"
            self.answer(200, {"object": "list", "data": [{"id": name, "max_model_len": 512}]})

    def do_POST(self):
        mode, _, *path = self.path.strip("/").split("/")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with lock:
            state = seen[mode]
            state["requests"].append({"path": "/".join(path), "body": body, "time": time.time()})
            count = len(state["requests"])
            state["now"] += 1
            state["most"] = max(state["most"], state["now"])
        try:
            self.respond(mode, path, body, count)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with lock:
                state["now"] -= 1

    def respond(self, mode, path, body, count):
        if mode == "busy" and count <= 2:
            self.refuse(429, "come back", Retry_After="0.3")
        elif mode == "down":
            self.refuse(503, "out of order\x1b[31m")
        elif mode == "daily":
            self.refuse(429, "quota used up", Retry_After="86400")
        elif mode == "redirect":
            self.answer(302, b"", Location="http://127.0.0.1:9/")
        elif mode == "nonsense":
            self.answer(200, b"<html>welcome</html>")
        elif mode == "huge":
            self.pour(b"data: " + b"x" * 65536)
        elif mode == "many":
            chunk = json.dumps({"choices": [{"index": 0, "text": "spam " * 100}]})
            self.pour(f"data: {chunk}\n\n".encode())
        elif mode == "slow":
            self.pour(b": still here\n", pause=0.05)
        elif path == ["chat", "completions"]:
            begin = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
            chunks = [{"choices": [{"index": 0, "delta": {"content": text}}]}
                      for text in ("It is ", body["messages"][-1]["content"], ".")]
            end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            self.stream(mode, [begin] + chunks, end, 9, 5, count)
        elif body.get("stream"):
            self.generate(mode, body, count)
        else:
            self.score(mode, body)

    def pour(self, piece, pause=0.0):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for _ in range(4000):
            self.wfile.write(piece)
            time.sleep(pause)

    def generate(self, mode, body, count):
        if mode == "gather":
            time.sleep(0.1)
        prompt = body["prompt"]
        if mode.startswith("text_") and not isinstance(prompt, str):
            return self.refuse(400, "prompt must be a string")
        if isinstance(prompt, str):
            chunks = [{"choices": [{"index": 0, "text": word}]} for word in prompt.split()]
            end = {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
            tokens = len(tokens_of(prompt)) if mode.startswith("text_") else 3
            tokens += mode == "text_miscounted"
            return self.stream(mode, chunks, end, tokens, len(chunks), count)
        ids = prompt[::-1][:body["max_tokens"]]
        chunks = []
        for k in range(0, len(ids), 2):
            text = "".join(TEXTS[i] for i in ids[k:k + 2]).replace("▁", " ")
            choice = {"index": 0, "finish_reason": None, "text": text}
            if body.get("return_token_ids"):
                choice["token_ids"] = ids[k:k + 2]
            chunks.append({"choices": [choice]})
        generated = len(ids) + (100 if mode == "miscounted" else 0)
        end = {"choices": [{"index": 0, "text": "", "finish_reason": "length"}]}
        self.stream(mode, chunks, end, len(prompt), generated, count)

    def stream(self, mode, chunks, last, prompt_tokens, generated, count):
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": generated,
                 "total_tokens": prompt_tokens + generated,
                 "prompt_tokens_details": {"cached_tokens": 1}}
        events = [json.dumps(chunk) for chunk in chunks + [last, {"choices": [], "usage": usage}]]
        events.append("[DONE]")
        if mode == "broken_stream":
            events[1] = json.dumps({"error": {"message": "out of memory", "code": 500}})
        if mode == "cut" and count == 1 or mode == "cut_always":
            events = events[:2]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in events:
            self.wfile.write(f"data: {event}\n\n".encode())
            self.wfile.flush()

    def score(self, mode, body):
        ids = body["prompt"]
        if mode.startswith("text_") and not isinstance(ids, str):
            return self.refuse(400, "prompt must be a string")
        if mode.startswith("text_"):
            ids = tokens_of(ids)
        echo, wants_map = body.get("echo"), body.get("prompt_logprobs")
        if wants_map and mode in ("echo", "echo_one", "shifted"):
            return self.refuse(400, "unknown field prompt_logprobs")
        if mode == "echo_one" and body["max_tokens"] == 0:
            return self.refuse(400, "max_tokens must be at least 1")
        if mode == "strict" and body.get("return_token_ids"):
            return self.refuse(422, "unknown field return_token_ids")
        choice = {"index": 0, "text": "", "finish_reason": "length"}
        if wants_map and mode != "blind":
            choice["prompt_logprobs"] = [None] + [self.ranked(i) for i in ids[1:]]
        if echo and mode != "blind":
            shown = [1] + ids if mode == "shifted" else ids + [5] * body["max_tokens"]
            choice["logprobs"] = {
                "tokens": [TEXTS[i] for i in shown],
                "token_logprobs": [None] + [logprob(i) for i in shown[1:]],
                "top_logprobs": [None] + [{TEXTS[i]: logprob(i)} if i % 2 == 0 else {"x": -0.125}
                                          for i in shown[1:]]}
        if body.get("return_token_ids") and mode != "blind":
            choice["token_ids"] = [5]
        usage = {"prompt_tokens": len(ids) + (mode == "bos"),
                 "completion_tokens": body["max_tokens"]}
        self.answer(200, {"choices": [choice], "usage": usage})

    def ranked(self, i):
        own = {str(i): {"logprob": logprob(i), "rank": 1 + i % 2, "decoded_token": TEXTS[i]}}
        best = {str((i + 1) % len(TEXTS)): {"logprob": -0.125, "rank": 1}}
        return own if i % 2 == 0 else {**own, **best}


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
