"""The device side: sources, heads, and the runtime that keeps the stages busy."""
