"""The trace and the state in one SQLite file per state folder: schema, writer, reader."""
