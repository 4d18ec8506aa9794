"""The offline tour: a scripted host, the real proxy and three bundled tool servers in their own processes."""
