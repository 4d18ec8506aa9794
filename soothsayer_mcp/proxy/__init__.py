"""MCP itself: what happens to every message between one host and its servers."""
