"""What must be known before a call, and whether the outcome kept its word after; pure."""
