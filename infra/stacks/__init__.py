"""One thin stack for each lifetime: state, embedding, flow."""
