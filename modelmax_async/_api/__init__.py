"""The wire format: every path and JSON key of the API, without I/O."""
