"""Frames without IO: strict reading, splices, ids, eras, answers as bytes."""
