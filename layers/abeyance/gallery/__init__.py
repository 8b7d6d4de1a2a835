"""Collections of templates: the DynamoDB store, snapshots, and exact search over them."""
