"""`python -m sightline.cli` is `sightline`."""

import os
import sys

from sightline.cli import main
from sightline.cli.parts import is_one_of_several

if __name__ == "__main__":
    status = main()
    if is_one_of_several():  # libraries of collectives may abort while they are taken apart, long after all is done
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
