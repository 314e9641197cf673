"""``make containers``: builds the images and starts docker-compose.yml for real, without a registry of images."""
