"""How sure a score is: intervals, differences, ties and ranks from the scores of seeds on examples.

Needs numpy, and of scipy `special` alone: importing `scipy.stats` costs a second. Modules import it, not this file.
"""
