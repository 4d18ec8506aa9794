"""Hosts: which there are, where they keep their servers, and how such a file is changed and put back."""
