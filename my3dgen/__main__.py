"""`python -m my3dgen`."""

import sys

from my3dgen.cli import main

sys.exit(main())
