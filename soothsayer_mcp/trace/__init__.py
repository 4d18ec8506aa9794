"""Remember: entries, chains and the filter language; pure."""
