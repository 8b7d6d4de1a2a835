"""Accuracy, calibration and bias audit of the models, on one's own photos. Not deployed."""
