"""What a model is asked: how examples become inputs, a loss, answers and scores; metrics are in `metrics/`.

May import `data` and below. The way in is `table.build`: a new task type is a class and its line there.
"""
