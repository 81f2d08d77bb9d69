"""A test lab: two AWS Regions on loopback, with the physics that a failover meets."""
