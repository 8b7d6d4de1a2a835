"""The CDK app: one construct for each capability, one thin stack for each lifetime."""
