"""Lifecycle and scope of runs, as pure functions that the store calls inside its transactions."""
