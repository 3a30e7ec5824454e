"""Start the node: ``python -m waistline_node BUNDLE --source S --edge E``."""

import os

if __name__ == "__main__":
    try:
        from waistline.program import run
    except KeyboardInterrupt:
        os._exit(130)
    run("waistline_node.service")
