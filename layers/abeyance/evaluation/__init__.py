"""How often it is wrong, and for whom: accuracy, calibration, audit. Not deployed."""
