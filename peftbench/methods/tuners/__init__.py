"""What peftbench's own peft tuners are built of; the tuners are in `methods/`, where configurations name them.

May import `models` and below, and peft.
"""
