"""What every part stands on: tasks that the client owns, threads, clocks, hooks, retries."""
