"""Face attributes: gender, age, expression, pose and mouth, with calibrated confidences.

Nothing here is imported, and no model is loaded, unless attributes beyond the default ones are asked for.
"""
