"""scripts/fetch_hub_data.py against a hub on loopback that holds two splits of GSM8K, one in two files, and MATH."""
import hashlib
import http.server
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading

import pyarrow
import pyarrow.parquet

ROOT = pathlib.Path(__file__).parent.parent
COMMIT = "0" * 40


def parquet(rows):
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


ROWS = [{"question": f"What is {i} + ½?", "answer": f"It is {i}.5\n#### {i}.5"} for i in range(7)]
MATH = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra",
        "precalculus")
FILES = {"openai/gsm8k/main/train/0000.parquet": parquet(ROWS[:3]),
         "openai/gsm8k/main/train/0001.parquet": parquet(ROWS[3:5]),
         "openai/gsm8k/main/test/0000.parquet": parquet(ROWS[5:])}
for subject in MATH:
    FILES[f"DigitalLearningGmbH/MATH-lighteval/{subject}/test/0000.parquet"] = parquet([{"problem": subject}])


class Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        match = re.fullmatch(r"/datasets/(.*)/resolve/(?:refs%2Fconvert%2Fparquet|0+)/(.*)", self.path)
        data = FILES.get("/".join(match.groups())) if match else None
        self.send_response(200 if data else 404)
        self.send_header("X-Repo-Commit", COMMIT)
        if data:
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        if with_body and data:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "scripts").mkdir()
        for name in ("fetch_hub_data.py", "fetching.py"):
            (folder / "scripts" / name).write_text((ROOT / "scripts" / name).read_text())
        environment = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
                                    "HF_HOME": str(folder / "cache"), "no_proxy": "127.0.0.1"}
        environment.pop("HF_HUB_OFFLINE", None)

        def run(*tasks, **more):
            return subprocess.run([sys.executable, folder / "scripts/fetch_hub_data.py", *tasks],
                                  env=environment | more, capture_output=True, text=True)

        def rows(split):
            path = folder / "data/hub/gsm8k" / f"{split}.jsonl"
            return [json.loads(line) for line in path.read_text().splitlines()]

        done = run("gsm8k")
        assert done.returncode == 0, done.stderr
        assert rows("train") == ROWS[:5] and rows("test") == ROWS[5:]
        done = run("leaderboard_math_hard")
        assert done.returncode == 0, done.stderr
        for subject in MATH:
            text = (folder / f"data/hub/leaderboard_math_hard/{subject}.jsonl").read_text()
            assert json.loads(text) == {"problem": subject}
        # What was downloaded is there without the hub.
        (folder / "data/hub/gsm8k/test.jsonl").unlink()
        done = run("gsm8k", HF_HUB_OFFLINE="1")
        assert done.returncode == 0 and rows("test") == ROWS[5:], done.stderr
        # A data set that the hub lacks and a task that does not exist are errors in words.
        for task in ("hellaswag", "nonsense"):
            done = run(task)
            assert done.returncode == 1 and done.stderr.splitlines()[-1].strip(), done
            assert "Traceback" not in done.stderr, done.stderr
    print("ok")


main()
