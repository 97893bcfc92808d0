"""What the product costs, stage by stage, and proofs of what it reports: `boursomatic bench`."""
