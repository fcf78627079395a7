"""From records to leaderboards. Imports no torch: a report must start at once and run anywhere."""
