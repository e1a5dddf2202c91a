"""Stand-ins with which the harness's own task code builds prompts without torch and datasets.

Only `datasets` (a list of rows stands for it) and the metrics' packages are replaced. The unpacked
wheel is to be in sys.path before this is imported.
"""
import importlib, os, sys, types


class Rows(list):
    """What the harness uses of datasets.Dataset."""
    @property
    def features(self): return {k: None for k in (self[0] if len(self) else {})}
    def map(self, f): return Rows({**r, **f(dict(r))} for r in self)
    def filter(self, f): return Rows(r for r in self if f(r))


class Anything(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"): raise AttributeError(name)
        return Anything(name)
    def __call__(self, *a, **k): return Anything("called")
    def __mro_entries__(self, bases): return (object,)
    def __or__(self, other): return self
    __ror__ = __or__


class Finder:
    """Stand-ins for what is not installed and makes no prompt."""
    names = ("datasets", "evaluate", "torch", "transformers", "sacrebleu", "rouge_score", "sklearn", "nltk", "langdetect",
             "immutabledict", "sympy", "math_verify", "sqlitedict", "dill", "accelerate", "jsonlines", "pytablewriter",
             "more_itertools", "word2number", "zstandard", "numexpr", "tqdm_multiprocess", "requests", "aiohttp", "tenacity", "scipy", "numpy", "pandas", "peft",
             "huggingface_hub", "tiktoken", "PIL")
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in self.names: return None
        from importlib.machinery import ModuleSpec
        return ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        m = Anything(spec.name); m.__path__ = []; return m
    def exec_module(self, module): pass
sys.meta_path.append(Finder())

import importlib.metadata, yaml
_version = importlib.metadata.version
importlib.metadata.version = lambda name: "3.10.4" if name == "nltk" else _version(name)
from lm_eval.api import task as T

DATA = {}
T.datasets.load_dataset = lambda path=None, name=None, **k: DATA["splits"]
class Loader(yaml.SafeLoader): pass


def load(path):
    folder = os.path.dirname(path)
    def function(loader, node):
        module, name = node.value.rsplit(".", 1)
        sys.path.insert(0, folder)
        sys.modules.pop(module, None)
        try: return getattr(importlib.import_module(module), name)
        finally: sys.path.pop(0)
    Loader.add_constructor("!function", function)
    with open(path, encoding="utf8") as f: cfg = yaml.load(f, Loader)
    if "include" in cfg:
        base = load(os.path.join(folder, cfg.pop("include")))
        cfg = {**base, **cfg}
    return cfg


from jinja2.sandbox import ImmutableSandboxedEnvironment
SMOLLM2 = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI "
    "assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
def render(messages, add_generation_prompt):
    text = SMOLLM2.render(messages=messages, add_generation_prompt=add_generation_prompt)
    if not add_generation_prompt:  # transformers' continue_final_message
        last = messages[-1]["content"].strip()
        text = text[:text.rindex(last) + len(last)]
    return text
