"""Computed tables, one file a subject; `waistline_hostctl.derive` puts them together."""
