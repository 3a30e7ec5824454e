"""The host side: command line, demo, doctor, reports."""
