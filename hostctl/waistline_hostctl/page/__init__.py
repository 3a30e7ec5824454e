"""The report, one file a section; `waistline_hostctl.report` puts them together."""
