"""Two tiny random encoders, BERT and RoBERTa, with what transformers computes from them.

    python make_encoders.py --out DIR      (transformers 4.57.6, flax 0.10.2, jax 0.4.38, tokenizers 0.22.2)

Writes DIR/tiny-bert and DIR/tiny-roberta (config.json, tokenizer.json, tokenizer_config.json, model.safetensors)
and DIR/encoders.jsonl: per encoder and text the ids of tokenizers and some values of the hidden states of
transformers' Flax models in float32; per pair of texts the BERTScore of a layer. The scores are bert_score
0.3.13's formulas in numpy (greedy_cos_idf, get_idf_dict, sent_encode), since its package needs torch.
"""
import argparse
import json
import math
import pathlib
from collections import Counter

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, FlaxBertModel, FlaxRobertaModel, RobertaConfig

TEXTS = [
    "The cat sat on the mat.", "a dog lay on a rug", "", "   \n\t ", "hello", "Running runners ran quickly!",
    "naïve café, Ångström ÀÉÎõü", "日本語 テキスト and 中文字符", "it's 3.14 not 3,14 — “quoted” …", "x_y-z foo.bar@baz #tag",
    "tab\tseparated  values\r\n", "zero\u200bwidth\u00adsoft \ufffd null\u0000 bell\u0007", "\u2028line\u3000ideographic\u00a0no-break\u0085next",
    "İstanbul ǅ ß ΣΑΣ straße", "emoji 👩‍🚀 flags 🇩🇪 𝒻ancy", "unknownwordthatisverylong" * 6, "[CLS] in [MASK] the </s> text <mask> end",
    "\x1c separators \x1f", "한국어 हिन्दी العربية עברית ไทย", "one two three four five six seven eight nine ten " * 6,
    "The U.S. economy grew 2.5% in Q3.", "US GDP growth was 2.5 percent in the third quarter.", "<b>bold</b> text", "e\u0301 combining \u0301", "a <pad> b [PAD] c",
]
PAIRS = [(0, 1), (0, 0), (2, 4), (4, 2), (3, 2), (5, 8), (20, 21), (6, 13), (19, 0), (7, 18), (9, 22), (16, 14), (17, 4), (12, 10), (24, 16)]
CORPUS = TEXTS + ["the quick brown fox jumps over the lazy dog", "growth of the economy in the third quarter", "running and jumping quickly"] * 3


def bert_tokenizer():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(
        vocab_size=320, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def roberta_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def torch_names(parameters, old_norms):
    """{name in a PyTorch checkpoint: array} of Flax parameters."""
    tensors = {}

    def walk(node, path):
        if hasattr(node, "items"):
            for key, child in node.items():
                walk(child, path + [key])
            return
        array, name = np.asarray(node), path[-1]
        if name == "kernel":
            array, name = array.T, "weight"
        if name == "embedding":
            name = "weight"
        if name == "scale":
            name = "gamma" if old_norms else "weight"
        if name == "bias" and path[-2] == "LayerNorm" and old_norms:
            name = "beta"
        tensors[".".join(path[:-1] + [name])] = np.ascontiguousarray(array)

    walk({key: value for key, value in parameters.items() if key != "pooler"}, [])
    return tensors


def randomize(parameters, generator, dtype):
    """Weights with some spread, rounded to `dtype`, as float32."""
    if hasattr(parameters, "items"):
        return {key: randomize(value, generator, dtype) for key, value in sorted(parameters.items())}
    array = np.asarray(parameters)
    array = array + generator.normal(0, 0.25 if array.ndim > 1 else 0.1, array.shape)
    return array.astype(dtype).astype(np.float32)


def hidden_states(model, ids):
    out = model(np.array([ids]), attention_mask=np.ones((1, len(ids)), dtype="i4"), output_hidden_states=True)
    return [np.asarray(state[0], dtype=np.float64) for state in out.hidden_states]


def bert_score(reference, candidate, idf):
    """(ids, states) of both; idf: id → weight. Returns precision, recall, F1."""
    (r_ids, r), (c_ids, c) = reference, candidate
    r, c = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (r, c))
    cosine = c @ r.T
    c_idf, r_idf = (np.array([idf(i) for i in ids], dtype=float) for ids in (c_ids, r_ids))
    with np.errstate(invalid="ignore"):
        precision = float((cosine.max(axis=1) * (c_idf / c_idf.sum())).sum())
        recall = float((cosine.max(axis=0) * (r_idf / r_idf.sum())).sum())
    f1 = 2 * precision * recall / (precision + recall)
    if len(r_ids) == 2 or len(c_ids) == 2:
        precision = recall = 0.0
    return [precision, recall, 0.0 if math.isnan(f1) else f1]


def make(name, model, tokenizer, config, longest, out, prefix, old_norms, dtype):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    model.params = randomize(model.params, np.random.default_rng(7), dtype)
    tensors = {prefix + key: value.astype(dtype) for key, value in torch_names(model.params, old_norms).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config.to_diff_dict() | {
        key: getattr(config, key) for key in (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "hidden_act", "pad_token_id")}, indent=1))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": longest}))
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(longest)
    is_roberta = config.model_type == "roberta"
    frame = tokenizer.encode("").ids

    def sent_encode(text):
        text = text.strip()
        return tokenizer.encode((" " if is_roberta else "") + text).ids if text else frame

    with open(out / "encoders.jsonl", "a", encoding="utf8") as file:
        def write(**row):
            file.write(json.dumps({"encoder": name, **row}, ensure_ascii=False) + "\n")

        for text in TEXTS:
            ids = tokenizer.encode(text).ids
            states = hidden_states(model, ids)
            mean = states[-1].mean(axis=0)
            write(text=text, ids=ids, states=[[round(x, 6) for x in (*state[0, :4], *state[-1, -4:])] for state in states],
                  embedding_first8=[round(x, 6) for x in (mean / np.linalg.norm(mean))[:8]])
        layer = config.num_hidden_layers - 1
        encoded = [(ids, hidden_states(model, ids)[layer]) for ids in map(sent_encode, TEXTS)]
        references = [encoded[a] for a, _ in PAIRS]
        holders = Counter(i for ids, _ in references for i in set(ids))
        for a, b in PAIRS:
            plain = bert_score(encoded[a], encoded[b], lambda i: 0 if i in frame else 1)
            idf = bert_score(encoded[a], encoded[b], lambda i: math.log((len(PAIRS) + 1) / (holders[i] + 1)))
            write(a=a, b=b, layer=layer, plain=[round(x, 6) for x in plain],
                  idf=[None if math.isnan(x) else round(x, 6) for x in idf])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True, type=pathlib.Path)
    target = parser.parse_args().out
    target.mkdir(parents=True, exist_ok=True)
    (target / "encoders.jsonl").unlink(missing_ok=True)
    words, pieces = bert_tokenizer(), roberta_tokenizer()
    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    bert = BertConfig(vocab_size=words.get_vocab_size(), max_position_embeddings=64, **shape)
    make("tiny-bert", FlaxBertModel(bert), words, bert, 64, target, "", True, np.float32)
    roberta = RobertaConfig(vocab_size=pieces.get_vocab_size(), max_position_embeddings=66, type_vocab_size=1,
                            layer_norm_eps=1e-5, **shape)
    make("tiny-roberta", FlaxRobertaModel(roberta), pieces, roberta, 64, target, "roberta.", False, np.float16)
