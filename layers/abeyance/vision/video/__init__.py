"""Stored video to people: ranges of a container, key frames, sampled frames, tracks. Only ``decode`` imports PyAV."""
