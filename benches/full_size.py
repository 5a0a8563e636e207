"""The models that are measured: random weights in the shapes of published ones, made once."""

import os
from pathlib import Path

from common import ROOT

SHAPES = {name: ROOT / "target" / "full-size" / name for name in ("vit-b-32", "vit-l-14")}

# Where the server has them.
MODELS = Path(os.environ.get("PG_CLIP_BENCH_MODELS", ROOT / "target" / "bench" / "models"))
