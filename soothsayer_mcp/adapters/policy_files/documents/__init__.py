"""What a policy file may hold, as pydantic models, by subject. Every error has its place in the file."""
