"""Writes the seeds (fuzz/corpus) and the regression files (fuzz/regressions) of the file readers.

    python3 fuzz/make_corpus.py

Seeds are small well-formed files. Regressions are malformed in the way of a published parser bug,
named after it; src/checkpoint/regressions_test.cc demands that each is refused.
"""
import gzip
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
U64 = 1 << 64


def save(kind, target, name, data):
    folder = HERE / kind / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(value)) + value


def safetensors(header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class Gguf:
    KINDS = {int: 4, float: 6, bool: 7, str: 8}
    CODES = {4: "<I", 6: "<f", 7: "<?"}

    def __init__(self):
        self.keys, self.tensors, self.data = [], [], b""

    def scalar(self, kind, value):
        return text(value) if kind == 8 else struct.pack(self.CODES[kind], value)

    def key(self, name, value, kind=None):
        if isinstance(value, list):
            kind = kind or self.KINDS[type(value[0])]
            body = struct.pack("<IIQ", 9, kind, len(value)) + b"".join(self.scalar(kind, v) for v in value)
        else:
            kind = kind or self.KINDS[type(value)]
            body = struct.pack("<I", kind) + self.scalar(kind, value)
        self.keys.append(text(name) + body)
        return self

    def raw_key(self, name, body):
        self.keys.append(text(name) + body)
        return self

    def tensor(self, name, dims, kind, size, offset=None):
        offset = len(self.data) if offset is None else offset
        self.tensors.append(text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d % U64) for d in dims)
                            + struct.pack("<IQ", kind, offset))
        self.data += bytes(size) + bytes(-size % 32)
        return self

    def bytes(self, tensors=None, keys=None, version=3):
        head = b"GGUF" + struct.pack("<IQQ", version, len(self.tensors) if tensors is None else tensors,
                                     len(self.keys) if keys is None else keys)
        head += b"".join(self.keys) + b"".join(self.tensors)
        return head + bytes(-len(head) % 32) + self.data


def model(arch="llama", pre="smollm"):
    g = Gguf().key("general.architecture", arch)
    for name, value in {"block_count": 1, "context_length": 16, "embedding_length": 32, "feed_forward_length": 32,
                        "attention.head_count": 4, "attention.head_count_kv": 2}.items():
        g.key(f"{arch}.{name}", value)
    g.key(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5).key(f"{arch}.rope.freq_base", 1e4)
    g.key("tokenizer.ggml.model", "gpt2").key("tokenizer.ggml.pre", pre)
    g.key("tokenizer.ggml.tokens", ["a", "b", "ab", "<e>"]).key("tokenizer.ggml.token_type", [1, 1, 1, 3])
    g.key("tokenizer.ggml.merges", ["a b"]).key("tokenizer.ggml.eos_token_id", 3)
    g.key("tokenizer.ggml.add_bos_token", False).key("tokenizer.chat_template", "{{ messages[0].content }}")
    g.tensor("token_embd.weight", [32, 4], 8, 34 * 4).tensor("output_norm.weight", [32], 0, 128)
    for part, rows, kind, size in (("attn_q", 32, 2, 18), ("attn_k", 16, 3, 20), ("attn_v", 16, 6, 22),
                                   ("attn_output", 32, 7, 24), ("ffn_gate", 32, 8, 34), ("ffn_up", 32, 1, 64),
                                   ("ffn_down", 32, 30, 64)):
        g.tensor(f"blk.0.{part}.weight", [32, rows], kind, size * rows)
    return g


def seeds():
    save("corpus", "safetensors", "two", safetensors(
        {"__metadata__": {"format": "pt"}, "a": tensor("F32", [2], 0, 8), "b": tensor("BF16", [1, 2], 8, 12)}, bytes(12)))
    save("corpus", "safetensors", "scalar_and_empty", safetensors(
        {"e": tensor("I8", [0, 4], 0, 0), "s": tensor("I64", [], 0, 8)}, bytes(8)))
    save("corpus", "gguf", "llama", model().bytes())
    save("corpus", "gguf", "qwen2", model("qwen2", "qwen2").tensor("output.weight", [32, 4], 1, 256).bytes())
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 8,
              "num_key_value_heads": 4, "intermediate_size": 172, "vocab_size": 512, "max_position_embeddings": 128,
              "rms_norm_eps": 1e-5, "eos_token_id": [2, 3], "rope_theta": 1e4,
              "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                               "original_max_position_embeddings": 8192}}
    save("corpus", "config_json", "llama3", json.dumps(config))
    weights = {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group", "group_size": 128,
               "actorder": "static", "dynamic": False, "observer": "mse"}
    inputs = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "token", "dynamic": True}
    config["quantization_config"] = {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head", "re:.*gate.*"],
        "config_groups": {"group_0": {"targets": ["Linear", "re:.*q_proj$"], "weights": weights, "input_activations": None},
                          "group_1": {"targets": ["x"], "weights": {**weights, "num_bits": 8, "type": "float",
                                                                   "symmetric": True, "strategy": "channel"},
                                      "input_activations": inputs}}}
    save("corpus", "config_json", "quantized", json.dumps(config))
    save("corpus", "index_json", "one", json.dumps({"metadata": {"total_size": 1}, "weight_map": {"t": "a.safetensors"}}))


def safetensors_regressions():
    put = lambda name, data: save("regressions", "safetensors", name, data)
    put("polyglot-trailing-bytes", safetensors({"t": tensor("I8", [1], 0, 1)}, b"xPK\3\4"))
    put("hole", safetensors({"t": tensor("I8", [1], 1, 2)}, bytes(2)))
    put("overlap", safetensors({"a": tensor("I8", [2], 0, 2), "b": tensor("I8", [2], 1, 3)}, bytes(3)))
    put("duplicate-name-that-tiles", safetensors(
        b'{"t":{"dtype":"I8","shape":[0],"data_offsets":[0,0]},"t":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}', b"x"))
    put("dims-wrap-to-zero", safetensors({"t": tensor("F32", [1 << 32, 1 << 32], 0, 0)}))
    put("bytes-wrap-to-zero", safetensors({"t": tensor("F32", [1 << 62], 0, 0)}))
    put("zero-dim-hides-overflow", safetensors({"t": tensor("F32", [1 << 62, 8, 0], 0, 0)}))
    put("thousand-dims", safetensors({"t": tensor("I8", [1] * 1000, 0, 1)}, b"x"))
    put("header-beyond-file", struct.pack("<Q", 1 << 40) + b"{}")
    put("header-length-negative", struct.pack("<Q", U64 - 8) + b"{}")
    put("deep-nesting", safetensors(b'{"__metadata__":' + b"[" * 5000 + b"]" * 5000 + b"}"))
    put("name-leaves-directory", safetensors({"../../x": tensor("I8", [1], 0, 1)}, b"x"))
    put("tensor-larger-than-file", safetensors({"t": tensor("F32", [1 << 30], 0, 1 << 32)}, bytes(16)))


def gguf_regressions():
    put = lambda name, data: save("regressions", "gguf", name, data)
    # CVE-2025-53630 and CVE-2026-27940: the sum of padded sizes wraps.
    put("CVE-2025-53630-padded-sum-wraps",
        Gguf().tensor("a", [(1 << 62) - 8], 0, 64).tensor("b", [(1 << 62) - 8], 0, 64).bytes())
    put("CVE-2026-27940-sum-wraps-past-first-fix",
        Gguf().tensor("a", [1 << 61], 1, 64).tensor("b", [1 << 61], 1, 64).tensor("c", [1 << 61], 1, 64).bytes())
    put("llama.cpp-18674-stride-wraps", Gguf().tensor("a", [(1 << 42) + 1, 1 << 22], 0, 64).bytes())
    for value in (0, 3, 1 << 31, (1 << 32) - 1):
        put(f"llama.cpp-26318-alignment-{value}", Gguf().key("general.alignment", value).tensor("a", [8], 0, 32).bytes())
    put("llama.cpp-24997-alignment-of-another-type", Gguf().key("general.alignment", 32.0).tensor("a", [8], 0, 32).bytes())
    bad = model()
    bad.keys = [k for k in bad.keys if b"token_type" not in k]
    put("llama.cpp-26690-token-types-of-another-type", bad.key("tokenizer.ggml.token_type", ["1", "1", "1", "3"]).bytes())
    put("llama.cpp-25821-block-count", model().bytes().replace(
        text("llama.block_count") + struct.pack("<II", 4, 1), text("llama.block_count") + struct.pack("<II", 4, 100000)))
    put("gguf-py-27188-array-of-2-63", Gguf().raw_key("k", struct.pack("<IIQ", 9, 4, 1 << 63)).bytes())
    put("array-larger-than-file", Gguf().raw_key("k", struct.pack("<IIQ", 9, 8, 1 << 30)).bytes())
    put("nested-arrays", Gguf().raw_key("k", struct.pack("<IIQ", 9, 9, 1) * 1000).bytes())
    put("string-larger-than-file", Gguf().raw_key("k", struct.pack("<IQ", 8, 1 << 34)).bytes())
    put("CVE-2026-7482-dims-larger-than-file", Gguf().tensor("a", [1 << 24], 0, 64).bytes())
    put("CVE-2024-21802-tensor-count", Gguf().bytes(tensors=1 << 56))
    put("CVE-2024-25664-key-count", Gguf().bytes(keys=1 << 60))
    put("offset-wraps", Gguf().tensor("a", [8], 0, 32, offset=U64 - 32).bytes())
    put("duplicate-key", Gguf().key("k", 1).key("k", 2).bytes())
    put("zero-heads", model().bytes().replace(
        text("llama.attention.head_count") + struct.pack("<II", 4, 4), text("llama.attention.head_count") + struct.pack("<II", 4, 0)))
    put("token-id-outside-vocabulary", model().key("tokenizer.ggml.bos_token_id", 1 << 31).bytes())


def json_regressions():
    put = lambda name, value: save("regressions", "config_json", name, value if isinstance(value, str) else json.dumps(value))
    put("deep-nesting", "[" * 5000 + "]" * 5000)
    put("layers-negative", {"model_type": "llama", "num_hidden_layers": -1})
    put("auto-map-is-no-model", {"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"})
    put("duplicate-key", '{"model_type":"llama","model_type":"qwen2"}')
    for value in ("../x", "/etc/passwd", "a/../../x", "x\0y", "..", ""):
        save("regressions", "index_json", "leaves-directory-" + value.replace("/", "_").replace("\0", "0"),
             json.dumps({"weight_map": {"t": value}}))
    save("regressions", "index_json", "no-map", "{}")
    save("regressions", "index_json", "names-what-is-not-there",
         json.dumps({"weight_map": {"t": "a.safetensors", "u": "a.safetensors"}}))


def template_seeds():
    """A byte for the syntax, then every template of the golden cases, joined by tens to few files."""
    lines = (HERE.parent / "tests/goldens/template/cases.jsonl").read_text().splitlines()[1:]
    templates = [json.loads(line)["template"] for line in lines]
    for i in range(0, len(templates), 10):
        save("corpus", "template", f"cases-{i // 10:02}", "\0" + "\n".join(templates[i:i + 10]))


def tokenizer_seeds():
    letters = {chr(c): i for i, c in enumerate(range(33, 127))}
    vocab = letters | {"\u0120": 94, "\u010a": 95, "Hi": 96, "th": 97, "\u0120th": 98}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    special = {"id": 99, "content": "<|im_end|>", "special": True, "lstrip": False, "rstrip": False,
               "normalized": False, "single_word": False}
    model = {"type": "BPE", "vocab": vocab, "merges": [["H", "i"], ["t", "h"], ["\u0120", "th"]]}
    document = {"added_tokens": [special], "normalizer": None, "pre_tokenizer": byte_level,
                "post_processor": None, "decoder": {"type": "ByteLevel"}, "model": model}
    save("corpus", "tokenizer_json", "byte-level", json.dumps(document))
    split = {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}|\\p{L}+|\\s+(?!\\S)|\\s+"},
             "behavior": "Isolated", "invert": False}
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        split, {"type": "Digits", "individual_digits": True}, byte_level | {"use_regex": False}]}
    document["normalizer"] = {"type": "NFC"}
    document["model"] = model | {"merges": ["H i", "t h"], "ignore_merges": True}
    document["post_processor"] = {
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|im_end|>", "type_id": 0}},
                                                 {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"<|im_end|>": {"id": "<|im_end|>", "ids": [99], "tokens": ["<|im_end|>"]}}}
    save("corpus", "tokenizer_json", "split", json.dumps(document))
    put = lambda name, value: save("regressions", "tokenizer_json", name, json.dumps(value))
    put("no-object", 33)
    put("decoder-type-no-text", document | {"decoder": {"type": 7}})
    put("added-tokens-no-list", document | {"added_tokens": {"id": []}})
    put("vocabulary-of-texts", document | {"model": model | {"vocab": {"a": "b"}}})
    put("id-beyond-bound", document | {"model": model | {"vocab": {"a": 1 << 40}}})
    put("merge-of-three", document | {"model": model | {"merges": [["a", "b", "c"]]}})


def answer_seeds():
    """Some of the golden answers and responses of tests/goldens/checkers."""
    goldens = HERE.parent / "tests/goldens/checkers"
    for target, name, field, step in [("math_answer", "math", "gold", 4), ("ifeval", "ifeval", "response", 8)]:
        for i, line in enumerate(gzip.open(goldens / f"{name}.jsonl.gz", "rt", encoding="utf8")):
            if i % step == 0 and json.loads(line)[field]:
                save("corpus", target, f"{field}-{i}", json.loads(line)[field])


def yaml_seeds():
    for name in ("recipes/w4a16-int", "recipes/w8a8-int", "tasks/gsm8k", "tasks/hellaswag"):
        save("corpus", "yaml", name.replace("/", "-"), (HERE.parent / f"{name}.yaml").read_bytes())
    save("regressions", "yaml", "billion-laughs",
         "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
             f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 8)}]\n" for i in range(12)))
    save("regressions", "yaml", "deep", "[" * 20000)
    save("regressions", "yaml", "cycle", "a: &a [*a]\n")


seeds()
template_seeds()
tokenizer_seeds()
yaml_seeds()
answer_seeds()
safetensors_regressions()
gguf_regressions()
json_regressions()
