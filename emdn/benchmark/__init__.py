"""Scores of networks and filters on shot noise made by the paper's rule (section 4).

instances --methods--> rows --tables, error_maps, plots--> table, figure
"""
