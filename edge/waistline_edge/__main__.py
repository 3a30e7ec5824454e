"""``python -m waistline_edge BUNDLE..``: the edge for a service manager."""

import sys

from waistline_edge.service import main

if __name__ == "__main__":
    sys.exit(main())
