"""Traces: samples on a meter's own time base, on disk and in memory.

`waistline.trace.base` says what a trace is. `store.open_trace` and `store.create` are the doors to
files, `repair.repair` mends one. Reading needs NumPy alone; writing needs pyjls (extra
``capture``), which only `jls_write` and the mending child import.
"""
