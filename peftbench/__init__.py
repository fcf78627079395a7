"""peftbench: which fine-tuning method for this model, this task and this hardware, and how sure are we?"""

__version__ = "0.1.0"
