"""The HTTP exchange with a provider: ``client`` makes it, ``messages`` are what goes out and what comes back."""
