"""What each page shows. Values in, `Html` out; nothing here reads or writes."""
