"""The Amazon Rekognition contract: wire format, operations, errors. Knows nothing of AWS clients."""
