"""What a platform asks a worker: whether it is alive, and whether it is ready."""
