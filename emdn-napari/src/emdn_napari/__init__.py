"""Denoise electron micrographs in napari.

    micrograph file --reader--> layer --widget, worker--> layer

- reader: files of microscopes as layers with their pixel size
- widget: what the user chooses, and the layer that comes back
- worker: the network in a thread of its own, which tells how far it is and can be stopped
"""
