"""Capturing: a reader, a writer and a control process around one ring in shared memory."""
