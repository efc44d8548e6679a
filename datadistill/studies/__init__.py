"""Studies: many runs in one folder, and the table of what they found."""
