"""Makes the runner importable: it is a program, not an installed package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
