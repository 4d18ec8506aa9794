"""What checks look at beside tools: files, programs, addresses, signatures. Off until the configuration allows each."""
