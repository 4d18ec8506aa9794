"""Undoing steps: what is kept for it, and the plan. Pure."""
