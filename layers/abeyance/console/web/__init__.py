"""The pages: parse the form, call one service, show the answer. The only decision here is who may see a page."""
