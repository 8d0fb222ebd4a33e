"""``python -m certsmooth``."""

import sys

from certsmooth.cli import main

sys.exit(main())
