"""How long a deployment will take: the real agent on plants that are made of a policy set's predictions."""
