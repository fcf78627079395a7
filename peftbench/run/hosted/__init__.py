"""Runs whose model is behind a server of OpenAI's interface. Start at `run.py`.

What a stopped run needs to go on is in the run's own folder at once: the job that is paid for (`job.py`) and every
answer (`answers.py`). Nothing leaves this machine without `hosted.consent=true` (`check.py`).
"""
