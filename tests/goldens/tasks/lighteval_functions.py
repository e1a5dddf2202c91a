"""LightEval's own functions (0.13.0, unpacked from its wheel) without what its packages would import.

needs: pip install sympy packaging latex2sympy2_extended==1.0.6
"""

import sys
import types
from pathlib import Path


def use(wheel: Path) -> Path:
    """Makes lighteval's modules importable; returns the folder of its sources."""
    root = wheel / "lighteval"
    sys.path.insert(0, str(wheel))  # its metadata is asked for
    for name in ("lighteval", "lighteval.metrics", "lighteval.metrics.utils", "lighteval.tasks",
                 "lighteval.tasks.templates", "lighteval.tasks.templates.utils", "lighteval.utils"):
        package = types.ModuleType(name)  # its __init__ does not run
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    requests = types.ModuleType("lighteval.tasks.requests")
    requests.Doc = object
    sys.modules["lighteval.tasks.requests"] = requests
    return root
