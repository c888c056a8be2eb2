"""compose.yaml brought up for once: `make test-compose`."""
