"""The one billed call of each job: made once, recorded before and after, never lost."""
