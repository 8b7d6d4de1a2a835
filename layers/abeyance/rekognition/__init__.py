"""The Amazon Rekognition contract: wire format, operations, errors. Makes no AWS client of its own."""
