"""The means to test with Soothsayer, shipped with it: a recording world, raw hosts and raw servers."""
