"""Training: what a recipe says, a step, and a run that lives in a folder.

recipe --run--> step after step --log, checkpoints--> weights
"""
