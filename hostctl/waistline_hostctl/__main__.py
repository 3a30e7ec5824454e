"""``python -m waistline_hostctl``: the same as ``waistline``."""

from waistline_hostctl.cli import main

if __name__ == "__main__":
    main()
