"""Soothsayer MCP: every tool call of an agent becomes a governed step."""

__version__ = "0.1.0"
