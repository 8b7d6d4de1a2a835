"""The bill, the limits and the forecast of a day: a model of the deployed pipeline. Asks nothing of AWS."""
