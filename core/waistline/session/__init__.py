"""Who says what when, without I/O: the node's and the edge's half of a conversation."""
