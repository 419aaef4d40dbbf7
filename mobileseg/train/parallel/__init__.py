"""Several processes train one network: each takes its share of every batch.

launch   starts the processes on one machine and watches them; imports no torch
team     one process does a verb's work, the others help it train
ranks    who a process is among the others, and what they tell each other
norm     batch norm over the pictures of all processes
whole    the loss of the whole batch from the logits of a share
"""
