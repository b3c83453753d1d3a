"""Commands, grouped by what they are for."""
