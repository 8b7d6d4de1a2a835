"""The whole system on one machine, with moto in the place of AWS. Not deployed."""
