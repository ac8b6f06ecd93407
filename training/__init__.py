"""Makes adapters: settings, data, runs, and the training itself."""
