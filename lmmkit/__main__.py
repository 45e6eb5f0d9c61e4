"""``python -m lmmkit``: the command line of :mod:`lmmkit.cli`."""

import sys

from lmmkit.cli import main

sys.exit(main())
