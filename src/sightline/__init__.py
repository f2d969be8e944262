"""Sightline aligns vision-language models with what people want from them.

Importing it lets idle OpenMP threads sleep instead of spin, unless the user has said otherwise: spinning threads take
the cores from whatever else runs, and a step beside other work then takes ten times as long. OpenMP reads this when
torch is loaded, so it helps where Sightline is imported before torch. Processes started from here inherit it.
"""

import os
import sys

if sys.argv[:1] == ["-m"] and sys.path and os.path.realpath(sys.path[0] or ".") == os.path.realpath("."):
    # `python -m sightline.cli` puts the current folder first, where a file beside the data would hide a library
    sys.path.append(sys.path.pop(0))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
