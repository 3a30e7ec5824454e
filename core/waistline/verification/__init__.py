"""What `waistline.verify` is made of: run the ends, compare, diagnose, speak with a far machine."""
