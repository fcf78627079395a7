"""From records to leaderboards. Imports nothing heavy: a report must start at once."""
