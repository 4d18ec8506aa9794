"""What people see of the trace in a terminal: values in, text and tables out."""
