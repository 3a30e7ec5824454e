"""``python -m waistline_edge BUNDLE..``: the edge for a service manager."""

import os

if __name__ == "__main__":
    try:
        from waistline.program import run
    except KeyboardInterrupt:
        os._exit(130)
    run("waistline_edge.service")
