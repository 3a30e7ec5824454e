"""What `waistline.verify` is made of: running the ends, comparing, diagnosing, and a far machine."""
