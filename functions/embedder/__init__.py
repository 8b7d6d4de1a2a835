"""The embedding endpoint: chips in, templates out. Serves SageMaker's contract and runs on ECS unchanged."""
