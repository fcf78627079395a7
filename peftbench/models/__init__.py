"""Pretrained models: where their files are, how they are loaded, their layers, parameters and dropout.

May import `tasks` (a task says which class of model it needs) and below. A new model is a file in conf/model.
"""
