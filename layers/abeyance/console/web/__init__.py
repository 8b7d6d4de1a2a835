"""The pages: parse the form, ask one room, show the answer. Nothing is decided here but who may see what."""
