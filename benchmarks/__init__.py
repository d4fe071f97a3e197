"""What the client costs, measured against other clients in the same run."""
