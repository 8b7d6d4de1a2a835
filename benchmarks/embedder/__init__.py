"""The embedding endpoint beside its model alone, and the model beside what the device could do."""
