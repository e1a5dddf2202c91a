"""Makes checkpoints of stories260K with llmcompressor, and what transformers computes from them.

    python make_peers.py kv_fp8 CALIBRATION             with llmcompressor 0.14.0.1
    python make_peers.py w4a16_gptq_group CALIBRATION   with llmcompressor 0.8.1: later ones refuse it

CALIBRATION: calibration_ids-stories260K.json.gz, 64 windows of 512 token ids, which
../quantization/quantize.py writes.

kv_fp8: weights as they were, scales of keys and values of each layer (kv_cache_scheme). These are
rounded up to powers of two, as narrow does on loading: so both round the same numbers.
w4a16_gptq_group: groups of 32 in the order of their activations (weight_g_idx); down_proj, whose
width is no multiple of 32, as it was.

logits.jsonl: of each prompt of ../logits/prompts.jsonl that is named below, token ids,
log-probabilities of the next tokens and likeliest tokens, computed in float32 from weights that
compressed-tensors made in bfloat16; of kv_fp8 with keys and values rounded by compressed-tensors.
"""
import gzip
import json
import math
import os
import pathlib
import shutil
import sys
import tempfile

import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent / "stories260k"
PROMPTS = ("short_story", "capital", "wiki_300")


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()


def recipe(variant):
    if variant == "kv_fp8":
        scheme = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False,
                  "symmetric": True}
        return QuantizationModifier(kv_cache_scheme=scheme)
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group",
               "group_size": 32, "actorder": "group"}
    return GPTQModifier(config_groups={"group_0": {"targets": ["Linear"], "weights": weights}},
                        ignore=["lm_head", "re:.*down_proj"], dampening_frac=0.01)


def make(variant, calibration, folder):
    model = load(SOURCE)
    windows = json.load(gzip.open(calibration))
    data = Dataset.from_dict({"input_ids": windows,
                              "attention_mask": [[1] * len(w) for w in windows]})
    oneshot(model=model, recipe=[recipe(variant)], dataset=data,
            num_calibration_samples=len(windows), max_seq_length=512)
    model.save_pretrained(folder, save_compressed=True)
    if variant == "kv_fp8":
        file = folder / "model.safetensors"
        tensors = load_file(file)
        for name, scale in tensors.items():
            if name.endswith((".k_scale", ".v_scale")):
                scale.fill_(2.0 ** math.ceil(math.log2(scale.item())))
        save_file(tensors, file, metadata={"format": "pt"})


@torch.no_grad()
def widened(variant, folder):
    """The model in float32, its weights as bfloat16 has them."""
    model = load(folder)
    model(torch.tensor([[1, 2]]))  # decompresses
    if variant == "kv_fp8":
        return torch.nn.Module.float(model)  # the model's own float() refuses quantized ones
    # Widened itself, this version would decompress again, in float32.
    plain = load(SOURCE).float()
    own = dict(plain.named_modules())
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module.weight is not None:
            own[name].weight.copy_(module.weight)
    return plain


@torch.no_grad()
def main():
    variant, calibration = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(SOURCE)
    folder = HERE / variant
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # where llmcompressor leaves its logs
        made = pathlib.Path(scratch) / "made"
        make(variant, calibration, made)
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(made / name, folder / name)
        os.chdir(HERE)
    model = widened(variant, folder)
    with open(folder / "logits.jsonl", "w", encoding="utf-8") as out:
        for line in open(HERE.parent / "logits" / "prompts.jsonl", encoding="utf-8"):
            prompt = json.loads(line)
            if prompt["id"] not in PROMPTS:
                continue
            ids = tokenizer.encode(
                prompt["text"], add_special_tokens=prompt.get("add_special_tokens", False))
            ids = ids[:prompt.get("max_tokens")]
            logits = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
            of_next = logits[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
            out.write(json.dumps({"id": prompt["id"], "token_ids": ids,
                                  "next_token_logprobs": [round(float(x), 6) for x in of_next],
                                  "argmax_ids": logits.argmax(-1).tolist()}) + "\n")


main()
