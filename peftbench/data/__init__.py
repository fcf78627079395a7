"""From rows to examples to batches of tokens: where data comes from, how it is read, tokenised and ordered.

May import `config` and `system`. A data set of a known task type is a file in conf/dataset; a new kind of row is a
reader in `readers.py`.
"""
