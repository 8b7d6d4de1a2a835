"""What a face seems to be, beyond where it is: gender, age, expression, pose, eyes and mouth, with confidences.

Nothing here is imported, and no model is loaded, unless attributes beyond the default ones are asked for.
"""
