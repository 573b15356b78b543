"""What training caused: attributable extraction, and the risk of each row."""
