"""Training pairs from a folder of micrographs.

folder --corpus--> records by source --sampler, augment--> pair n --pipeline--> batches
"""
