"""Start the node: ``python -m waistline_node BUNDLE --source S --edge E``."""

from __future__ import annotations

import sys

from waistline_node.service import main

if __name__ == "__main__":
    sys.exit(main())
