"""The world: one file per thing outside."""
