"""Traces: samples on a meter's own time base, on disk and in memory.

`waistline.trace.base` says what a trace is and needs NumPy alone; `waistline.trace.jls` is the only
module that imports pyjls (extra ``capture``). `open_trace` and `create` are the two doors.
"""
