"""The nouns: frozen values and closed tables that every other layer speaks in. Imports nothing of ours."""
