"""Writes the GGUF files that the tests read, with the `gguf` package (0.19.0) and numpy.

    python make_goldens.py

blocks.json: for each block type some random blocks (hex) and the floats that gguf.dequantize makes
of them, as hex of their bits. tiny_llama.gguf / tiny_qwen2.gguf: two-layer models of random weights
with a vocabulary of 256 byte tokens and a few merges and special tokens; expected.json: SHA-256 of
the bf16 bytes of each tensor under its Hugging Face name, rows of q and k in Hugging Face order.
"""
import hashlib
import json
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

HERE = pathlib.Path(__file__).parent
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208]}
rng = np.random.default_rng(7)


def random_blocks(name, count):
    """Random codes and sub-scales; the half-precision scales are finite."""
    elements, size = gguf.GGML_QUANT_SIZES[Q[name]]
    if name == "F32":
        return rng.standard_normal(count).astype(np.float32).view(np.uint8).reshape(count, 4)
    if name == "F16":
        return rng.standard_normal(count).astype(np.float16).view(np.uint8).reshape(count, 2)
    if name == "BF16":
        return (rng.standard_normal(count).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(count, 2)
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in HALVES[name]:
        blocks[:, at:at + 2] = rng.standard_normal(count).astype(np.float16).view(np.uint8).reshape(count, 2)
    return blocks


def to_bf16(values):
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def byte_tokens():
    """GPT-2's printable stand-ins for the 256 bytes."""
    shown = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    stand_in, extra = {}, 0
    for b in range(256):
        stand_in[b] = chr(b) if b in shown else chr(256 + extra)
        extra += b not in shown
    return [stand_in[b] for b in range(256)]


MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w"]


def write_model(arch, pre):
    hidden, heads, kv, ff, layers = 256, 4, 2, 256, 2
    tokens = byte_tokens() + [m.replace(" ", "") for m in MERGES] + ["<|im_start|>", "<|im_end|>", "<tool>"]
    kinds = [1] * 261 + [3, 3, 4]
    if arch == "qwen2":  # padding rows, as converters write them
        tokens += ["[PAD264]", "[PAD265]"]
        kinds += [5, 5]
    w = gguf.GGUFWriter(HERE / f"tiny_{arch}.gguf", arch)
    w.add_block_count(layers); w.add_context_length(128); w.add_embedding_length(hidden)
    w.add_feed_forward_length(ff); w.add_head_count(heads); w.add_head_count_kv(kv)
    w.add_rope_freq_base(50000.0); w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre(pre)
    w.add_token_list(tokens); w.add_token_types(kinds); w.add_token_merges(MERGES)
    w.add_bos_token_id(261); w.add_eos_token_id(262); w.add_pad_token_id(262); w.add_add_bos_token(False)
    w.add_chat_template("{{ messages[0].content }}")
    expected = {}
    names = iter(TYPES[3:] * 10)

    def put(ours, theirs, shape, kind=None):
        kind = kind or next(names)
        elements, size = gguf.GGML_QUANT_SIZES[Q[kind]]
        raw = random_blocks(kind, int(np.prod(shape)) // elements)
        raw = raw.reshape(*shape[:-1], shape[-1] // elements * size)
        plain = gguf.dequantize(raw, Q[kind]).reshape(shape)
        if kind == "F32":
            w.add_tensor(theirs, raw.view(np.float32).reshape(shape))
        else:
            w.add_tensor(theirs, raw, raw_dtype=Q[kind])
        if arch == "llama" and ".attn_q." in theirs or arch == "llama" and ".attn_k." in theirs:
            h = heads if "attn_q" in theirs else kv
            plain = plain.reshape(h, shape[0] // h // 2, 2, -1).swapaxes(1, 2).reshape(shape)
        expected[ours] = hashlib.sha256(to_bf16(plain).tobytes()).hexdigest()

    put("model.embed_tokens.weight", "token_embd.weight", (len(tokens), hidden), "Q8_0")
    head = hidden // heads
    for i in range(layers):
        o, t = f"model.layers.{i}.", f"blk.{i}."
        put(o + "input_layernorm.weight", t + "attn_norm.weight", (hidden,), "F32")
        put(o + "self_attn.q_proj.weight", t + "attn_q.weight", (hidden, hidden))
        put(o + "self_attn.k_proj.weight", t + "attn_k.weight", (kv * head, hidden))
        put(o + "self_attn.v_proj.weight", t + "attn_v.weight", (kv * head, hidden))
        if arch == "qwen2":
            put(o + "self_attn.q_proj.bias", t + "attn_q.bias", (hidden,), "F32")
            put(o + "self_attn.k_proj.bias", t + "attn_k.bias", (kv * head,), "F32")
            put(o + "self_attn.v_proj.bias", t + "attn_v.bias", (kv * head,), "F32")
        put(o + "self_attn.o_proj.weight", t + "attn_output.weight", (hidden, hidden))
        put(o + "post_attention_layernorm.weight", t + "ffn_norm.weight", (hidden,), "F32")
        put(o + "mlp.gate_proj.weight", t + "ffn_gate.weight", (ff, hidden))
        put(o + "mlp.up_proj.weight", t + "ffn_up.weight", (ff, hidden))
        put(o + "mlp.down_proj.weight", t + "ffn_down.weight", (hidden, ff))
    put("model.norm.weight", "output_norm.weight", (hidden,), "F32")
    if arch == "qwen2":
        put("lm_head.weight", "output.weight", (len(tokens), hidden), "F16")
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
    return expected


def main():
    blocks = {}
    for name in TYPES:
        raw = random_blocks(name, 4)
        plain = gguf.dequantize(raw.reshape(1, -1), Q[name]).astype(np.float32).ravel()
        blocks[name] = {"blocks": raw.tobytes().hex(), "floats": plain.tobytes().hex()}
    (HERE / "blocks.json").write_text(json.dumps(blocks, indent=1) + "\n")
    expected = {arch: write_model(arch, pre) for arch, pre in (("llama", "smollm"), ("qwen2", "qwen2"))}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


main()
