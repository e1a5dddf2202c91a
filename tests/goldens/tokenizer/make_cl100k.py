"""Ids of cl100k_base by tiktoken 0.14.0, special tokens as plain text (as Arena-Hard counts).

    python make_cl100k.py VOCABULARY      (a .tiktoken file: the one in the wheel litellm 1.54.0)
"""
import base64, gzip, io, json, pathlib, sys
import tiktoken
from tiktoken_ext.openai_public import cl100k_base  # the pattern; its own download of the vocabulary is not used
import tiktoken_ext.openai_public as public

ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, open(sys.argv[1], "rb"))}
public.load_tiktoken_bpe = lambda *_, **__: ranks
encoding = tiktoken.Encoding(**cl100k_base())
here = pathlib.Path(__file__).parent
rows = [json.loads(line) for line in open(here / "strings.jsonl", encoding="utf8")]
text = "".join(json.dumps({"text": row["text"], "ids": encoding.encode(row["text"], disallowed_special=())}) + "\n" for row in rows)
with gzip.GzipFile(here / "cl100k-strings.jsonl.gz", "wb", mtime=0) as file: file.write(text.encode())
print(len(rows))
