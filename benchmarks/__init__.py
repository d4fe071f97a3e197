"""The cost of the client, measured against other clients in the same run."""
