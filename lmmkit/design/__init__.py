"""Designs: from a frame or from arrays to the matrices of a model."""
