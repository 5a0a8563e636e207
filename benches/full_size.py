"""The measured models: random weights in the shapes of published models, created once."""

import os
from pathlib import Path

from common import ROOT

SHAPES = {name: ROOT / "target" / "full-size" / name for name in ("vit-b-32", "vit-l-14")}

# The server's copies of the models.
MODELS = Path(os.environ.get("PG_CLIP_BENCH_MODELS", ROOT / "target" / "bench" / "models"))
