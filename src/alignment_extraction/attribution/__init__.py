"""What training caused: hits of members beyond those of their twins, and which rows are at risk."""
