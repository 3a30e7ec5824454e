"""Models as graphs: frontiers, and cutting a file at one of them."""
