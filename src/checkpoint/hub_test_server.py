"""A hub on the loopback for hub_test.cc: python3 hub_test_server.py MODEL_DIRECTORY LOG

Prints its port. org/tiny is the model; org/broken sends other bytes of the right length; org/private
answers 401. Files redirect to /cdn as on the real hub. The first answer for weights stops half-way.
"""
import hashlib
import http.server
import json
import pathlib
import sys

MODEL, LOG = pathlib.Path(sys.argv[1]), open(sys.argv[2], "a", buffering=1)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "1_Pooling/config.json"]
cut = set()


def content(name):
    if name == "1_Pooling/config.json":
        return b'{"pooling_mode_mean_tokens": true}'
    return (MODEL / name).read_bytes()


def sibling(name):
    data = content(name)
    item = {"rfilename": name, "size": len(data),
            "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
    if name.endswith(".safetensors"):
        item["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    return item


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        return body

    def do_GET(self):
        LOG.write(f"{self.path} {self.headers.get('Range')} {self.headers.get('Authorization')}\n")
        parts = self.path.split("?")[0].strip("/").split("/")
        if "private" in parts:
            self.answer(401)
        elif parts[0] == "api" and parts[3] in ("tiny", "broken"):
            siblings = [sibling(name) for name in NAMES]
            siblings += [{"rfilename": "modeling.py", "size": 1, "blobId": "0" * 40},
                         {"rfilename": "sub/config.json", "size": 1, "blobId": "0" * 40}]
            self.wfile.write(self.answer(200, json.dumps({"sha": COMMIT, "siblings": siblings}).encode()))
        elif len(parts) >= 5 and parts[2] == "resolve":
            self.answer(302, Location=f"/cdn/{parts[1]}/{'/'.join(parts[4:])}")
        elif parts[0] == "cdn":
            self.send_file(parts[1], "/".join(parts[2:]))
        else:
            self.answer(404)

    def send_file(self, repository, name):
        data = content(name)
        if repository == "broken":
            data = bytes(len(data))
        begin = 0
        if self.headers.get("Range"):
            begin = int(self.headers["Range"].split("=")[1].rstrip("-"))
            body = self.answer(206, data[begin:], Content_Range=f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            body = self.answer(200, data)
        if name.endswith(".safetensors") and name not in cut:
            cut.add(name)
            body = body[:len(body) // 2]
        self.wfile.write(body)


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
