"""The edge side: server, tail pool, queue, metrics."""
