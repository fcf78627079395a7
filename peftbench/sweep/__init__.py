"""Many runs, in the parent process: a command line becomes cells, a plan, runs that are launched and watched.

May import `config`, `results`, `system`, and of `run` `prepared.py`.
"""
