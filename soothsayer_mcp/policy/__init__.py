"""May it? The policy language as pure functions: matching, deciding, explaining."""
