"""The leaderboard as one page: a `Document`, rendered by a template, with pictures drawn here; the script only filters.

Names and texts of records are data: the template and `svg` escape them, the script writes them as text."""
