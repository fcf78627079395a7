"""Runs whose model is behind a server of OpenAI's interface: the training file, the job, the answers, the record.

Start at `run.py`. What a stopped run needs to go on is in the run's own folder, written as soon as it is known: the job
that is paid for (`job.py`) and every answer (`answers.py`). What is sent leaves this machine, so that nothing is sent
without `hosted.consent=true` (`check.py`).
"""
