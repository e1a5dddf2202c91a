"""Copies the checkpoints that the tests load and writes what they must contain.

    python make_goldens.py PEER_CHECKPOINTS PEER_FIGURES     (needs numpy)

PEER_CHECKPOINTS: folders stories260K-<variant> as llmcompressor 0.14.0.1 saved them. PEER_FIGURES:
stories260K-<variant>.json.gz with that tool's own hashes of codes and scales, taken before saving.
The hash of the dequantized weights, bf16(code * scale), is computed here by numpy alone.
"""
import gzip
import hashlib
import json
import pathlib
import shutil
import struct
import sys

import numpy as np

VARIANTS = ["fp8_dynamic_rtn", "fp8_static", "w8a8_rtn", "w8a8_gptq", "w4a16_asym_rtn",
            "w4a16_gptq_mse_static", "w4a16_channel_rtn", "w3a16_channel_asym_rtn", "w2a16_rtn",
            "w8a16_rtn"]
REFUSED = ["nvfp4a16_rtn", "mxfp4a16_rtn"]  # config.json alone
TYPES = {"BF16": np.uint16, "I32": np.int32, "I8": np.int8, "F8_E4M3": np.uint8, "I64": np.int64}


def tensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__")
    return {name: np.frombuffer(data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]],
                                TYPES[t["dtype"]]).reshape(t["shape"]) for name, t in header.items()}


def widen(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrow(values):
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def e4m3(bits):
    sign = np.where(bits & 128, -1.0, 1.0)
    exponent, fraction = (bits >> 3 & 15).astype(int), (bits & 7).astype(float)
    return np.where(exponent == 0, sign * fraction * 2.0**-9,
                    sign * (8 + fraction) * 2.0**(exponent - 10.0)).astype(np.float32)


def unpack(words, bits, count):
    """One row at a time as a long little-endian string of bits."""
    rows = []
    for row in words:
        stream = int.from_bytes(row.tobytes(), "little")
        rows.append([(stream >> (i * bits) & ((1 << bits) - 1)) - (1 << (bits - 1)) for i in range(count)])
    return np.array(rows, np.int32)


def dequantize(module, loaded, bits):
    scale = widen(loaded[module + ".weight_scale"])
    zero = 0
    if module + ".weight_packed" in loaded:
        out, cols = (int(x) for x in loaded[module + ".weight_shape"])
        codes = unpack(loaded[module + ".weight_packed"], bits, cols)
        if module + ".weight_zero_point" in loaded:
            zero = unpack(loaded[module + ".weight_zero_point"].T, bits, out).T
    else:
        stored = loaded[module + ".weight"]
        codes = e4m3(stored) if stored.dtype == np.uint8 else stored.astype(np.int32)
    if scale.size > 1:
        repeat = codes.shape[1] // scale.shape[1]
        scale = np.repeat(scale, repeat, axis=1)
        zero = np.repeat(zero, repeat, axis=1) if np.ndim(zero) else 0
    return narrow((codes - zero).astype(np.float32) * scale.astype(np.float32))


def main():
    peers, figures = map(pathlib.Path, sys.argv[1:3])
    here = pathlib.Path(__file__).parent
    expected = {}
    for variant in VARIANTS + REFUSED:
        folder = here / variant
        folder.mkdir(exist_ok=True)
        shutil.copyfile(peers / f"stories260K-{variant}" / "config.json", folder / "config.json")
    for variant in VARIANTS:
        source = peers / f"stories260K-{variant}" / "model.safetensors"
        shutil.copyfile(source, here / variant / "model.safetensors")
        loaded = tensors(source)
        told = json.load(gzip.open(figures / f"stories260K-{variant}.json.gz"))
        bits = told["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"]
        expected[variant] = {
            figure["module"]: {"codes": figure["codes_sha256"], "scales": figure["scales_sha256"],
                     "dequantized": hashlib.sha256(dequantize(figure["module"], loaded, bits).tobytes()).hexdigest()}
            for figure in told["modules"]}
    (here / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


main()
