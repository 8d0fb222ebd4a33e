"""``python -m certsmooth``."""

import sys

from certsmooth.experiment.cli import main

sys.exit(main())
